#!/usr/bin/env bash
# Train the small cascade `mini` from animated assets. It takes about nine hours on two CPU cores
# plus five minutes on a GPU, or six more hours without a GPU.
#
#     examples/train_mini.sh ASSETS OUT        ASSETS: folder of GLB files
#
# Run it again to resume. The weights are written to OUT/weights:
#
#     fourdvd generate VIDEO -o GRID --weights OUT/weights
#
# The bundled weights were trained for the same number of steps, but in more parts, with less noise
# in some of the parts that are `noisy` here, and on only some of the shapes. Their logs are in
# examples/mini_training, the model card in docs/models.md.
set -euo pipefail
assets=$1 out=$2

# 1. Render each asset from 16 cameras at elevation 0°, and again rotated and at 10°.
fourdvd data render "$assets" -o "$out/renders" --size 128 --renderer fast
fourdvd data render "$assets" -o "$out/renders_above" --size 128 --renderer fast \
    --elevation 10 --yaw 34
mkdir -p "$out/grids"
for place in renders renders_above; do
    for grid in "$out/$place"/*/; do
        name=$(basename "$grid")_$place
        [ -e "$grid/transforms.json" ] && [ ! -e "$out/grids/$name" ] && cp -al "$grid" "$out/grids/$name"
    done
done

# 2. Render six stretched versions of each asset, and up to four more of its animations.
shaped() { # FOLDER ELEVATION YAW STRETCH SEED ASSETS AND OPTIONS
    fourdvd data render "${@:6}" -o "$out/shapes/$1" --size 128 --renderer fast \
        --elevation "$2" --yaw "$3" --stretch "$4" --seed "$5"
}
shaped 1 0 11 1.3 1 "$assets"
shaped 2 10 0 1.3 2 "$assets"
shaped 3 0 17 1.5 3 "$assets"
shaped 4 5 5 1.5 4 "$assets"
shaped 5 15 20 1.4 5 "$assets"
shaped 6 0 8 1.4 6 "$assets"
python3 - "$out/renders/manifest.jsonl" <<'PYTHON' > "$out/animations.tsv"
import json, sys
for row in map(json.loads, open(sys.argv[1], encoding="utf-8")):
    moving = sorted((clip for clip in row.get("clips", ()) if clip["motion"] > 0.02
                     and clip["seconds"] > 0.2 and clip["name"] != row["clip"]),
                    key=lambda clip: -clip["motion"])
    for number, clip in enumerate(moving[:4]):
        print(number, row["name"], row["asset"], clip["name"], sep="\t")
PYTHON
elevations=(0 10 0 5) yaws=(3 14 19 9)
while IFS=$'\t' read -r number name asset animation; do
    shaped "animation_$number/$name" "${elevations[number]}" "${yaws[number]}" 1.4 \
        "$((11 + number))" "$asset" --action "$animation" < /dev/null ||
        echo "not rendered: $animation of $name" >&2
done < "$out/animations.tsv"
for grid in "$out"/shapes/*/*/ "$out"/shapes/animation_*/*/*/; do
    name=$(echo "${grid#"$out"/shapes/}" | tr / _)
    [ -e "$grid/transforms.json" ] && [ ! -e "$out/more/$name" ] &&
        mkdir -p "$out/more" && cp -al "$grid" "$out/more/$name"
done
[ -e "$out/shards_more/index.json" ] ||
    fourdvd data pack "$out/more" -o "$out/shards_more" --low 64 --high 128 --all

[ -e "$out/shards/index.json" ] ||
    fourdvd data pack "$out/grids" -o "$out/shards" --low 64 --high 128 --all

# 3. Generate procedural characters: small ones from six elevations for SV3D, others at both sizes
# for the coarse and the fine stage. SV3D is not trained on the latter, so that its views of them are
# as imperfect as at inference.
figures() { # FOLDER COUNT SEED OPTIONS
    local elevations=(0 5 10 15 20 -5)
    for number in "${!elevations[@]}"; do
        fourdvd data figures -o "$out/$1" --count "$2" --seed "$(($3 + 1000 * number))" \
            --elevation "${elevations[number]}" "${@:4}"
    done
}
figures figures 850 1000 --size 64 --frames 6 --samples 25
figures figures_whole 70 100000
[ -e "$out/shards_figures/index.json" ] ||
    fourdvd data pack "$out/figures" -o "$out/shards_figures" --low 64 --low-only --all
[ -e "$out/shards_whole/index.json" ] ||
    fourdvd data pack "$out/figures_whole" -o "$out/shards_whole" --low 64 --high 128 --all

# 4. Train the five networks. Each training starts from the one before (--init-from).
shards=("$out/shards")
train() { # STAGE FOLDER OPTIONS
    fourdvd train "$1" "${shards[@]}" -o "$out/trainings/$2" "${@:3}"
}
train vae vae
vae=(--vae "$out/trainings/vae") noisy=(--config mini_noisy)
export OMP_NUM_THREADS=1 # two trainings at a time, each on one core
(
    train reference-views views_begun "${vae[@]}"
    train reference-views views_noisy "${vae[@]}" --init-from "$out/trainings/views_begun" \
        "${noisy[@]}" --steps 9850
) &
views=$!
high=(--resolution high --batch-size 1)
train base base_low "${vae[@]}"
train base base_high "${vae[@]}" --init-from "$out/trainings/base_low" "${high[@]}" \
    --steps 700 --lr 6e-4
train base base_low_again "${vae[@]}" --init-from "$out/trainings/base_high" --steps 900 --lr 8e-4
train base base_high_again "${vae[@]}" --init-from "$out/trainings/base_low_again" "${high[@]}" \
    --steps 250 --lr 1e-3
train base base_low_more "${vae[@]}" --init-from "$out/trainings/base_high_again" --steps 1100 --lr 8e-4
train base base_high_more "${vae[@]}" --init-from "$out/trainings/base_low_more" "${high[@]}" \
    --steps 600 --lr 8e-4
train base base_low_noisy "${vae[@]}" --init-from "$out/trainings/base_high_more" "${noisy[@]}" \
    --steps 850
train base base_high_noisy "${vae[@]}" --init-from "$out/trainings/base_low_noisy" "${noisy[@]}" \
    "${high[@]}" --steps 1950
train base base_low_last "${vae[@]}" --init-from "$out/trainings/base_high_noisy" "${noisy[@]}" \
    --steps 400
train base base_high_last "${vae[@]}" --init-from "$out/trainings/base_low_last" "${noisy[@]}" \
    "${high[@]}" --steps 600
wait "$views"
unset OMP_NUM_THREADS

shards=("$out/shards_more")
train base base_shapes "${vae[@]}" --init-from "$out/trainings/base_high_last" "${noisy[@]}" \
    --resolution high --batch-size 2 --steps 1100 --lr 1e-3
train base base "${vae[@]}" --init-from "$out/trainings/base_shapes" --config mini_more
train reference-views views_shapes "${vae[@]}" --init-from "$out/trainings/views_noisy" \
    --config mini_more
shards=("$out/shards_figures" "$out/shards_more" "$out/shards_more")
train reference-views reference-views "${vae[@]}" --init-from "$out/trainings/views_shapes" \
    --config mini_more --batch-size 16 --steps 4900 --lr 1e-3
shards=("$out/shards_whole" "$out/shards_whole" "$out/shards_more")
base=("${vae[@]}" --base "$out/trainings/base")
seen=(--reference-views "$out/trainings/reference-views")
train coarse coarse "${base[@]}" "${seen[@]}" --batch-size 4
train fine fine "${base[@]}" "${seen[@]}" --coarse "$out/trainings/coarse"
[ -e "$out/weights" ] || fourdvd train assemble "$out/trainings" -o "$out/weights"
