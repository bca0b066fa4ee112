#!/usr/bin/env bash
# Trains the small cascade `mini` from animated assets, on two CPU cores in about five hours.
#
#     examples/train_mini.sh ASSETS OUT        ASSETS: folders of GLB files
#
# Run it again to go on where it stopped. The weights come to lie in OUT/weights:
#
#     fourdvd generate VIDEO -o GRID --weights OUT/weights
#
# What ships was trained for as many steps in more parts, with less noise in some of those that are
# `noisy` here: examples/mini_training.
set -euo pipefail
assets=$1 out=$2

# Each asset from 16 cameras at the horizon, and once more turned and from above.
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
[ -e "$out/shards/index.json" ] ||
    fourdvd data pack "$out/grids" -o "$out/shards" --low 64 --high 128 --all

train() { # STAGE FOLDER OPTIONS
    fourdvd train "$1" "$out/shards" -o "$out/trainings/$2" "${@:3}"
}
train vae vae
vae=(--vae "$out/trainings/vae") noisy=(--config mini_noisy)
export OMP_NUM_THREADS=1 # from here on two trainings at a time, each on a core of its own
(
    train reference-views views_begun "${vae[@]}"
    train reference-views reference-views "${vae[@]}" --start "$out/trainings/views_begun" \
        "${noisy[@]}" --steps 9850
) &
views=$!
high=(--size high --batch 1)
train base base_low "${vae[@]}"
train base base_high "${vae[@]}" --start "$out/trainings/base_low" "${high[@]}" \
    --steps 700 --lr 6e-4
train base base_low_again "${vae[@]}" --start "$out/trainings/base_high" --steps 900 --lr 8e-4
train base base_high_again "${vae[@]}" --start "$out/trainings/base_low_again" "${high[@]}" \
    --steps 250 --lr 1e-3
train base base_low_more "${vae[@]}" --start "$out/trainings/base_high_again" --steps 1100 --lr 8e-4
train base base_high_more "${vae[@]}" --start "$out/trainings/base_low_more" "${high[@]}" \
    --steps 600 --lr 8e-4
train base base_low_noisy "${vae[@]}" --start "$out/trainings/base_high_more" "${noisy[@]}" \
    --steps 850
train base base_high_noisy "${vae[@]}" --start "$out/trainings/base_low_noisy" "${noisy[@]}" \
    "${high[@]}" --steps 1950
train base base_low_last "${vae[@]}" --start "$out/trainings/base_high_noisy" "${noisy[@]}" \
    --steps 400
train base base "${vae[@]}" --start "$out/trainings/base_low_last" "${noisy[@]}" "${high[@]}" \
    --steps 600
base=("${vae[@]}" --base "$out/trainings/base")
wait "$views"
seen=(--reference-views "$out/trainings/reference-views")
train coarse coarse "${base[@]}" "${seen[@]}"
train fine fine "${base[@]}" "${seen[@]}" --coarse "$out/trainings/coarse"
fourdvd train assemble "$out/trainings" -o "$out/weights"
