"""Objects of Objaverse: selected by their metadata, downloaded whole or not at all, credited."""

import gzip
import hashlib
import json
import random
import threading
import time
from collections.abc import Iterator

import pytest

from generation.curation.assets.files import read_origins
from generation.curation.assets.licenses import LICENSES, PERMISSIVE
from generation.curation.assets.objaverse import (
    CONSISTENT4D,
    Criteria,
    DownloadError,
    Mismatch,
    find_objects,
    read_uids,
    sample,
)
from generation.curation.assets.objaverse_download import download_objects, read_records
from recon.errors import InputError, OutputError, OutputExistsError
from tests.generation.curation.tiny_objaverse import (
    Hub,
    contents,
    go_offline,
    make_annotation,
    make_glb,
    serve_objaverse,
    uid_of,
)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    with serve_objaverse(tmp_path, monkeypatch) as served:
        served.publish([make_annotation(number) for number in range(6)])
        yield served


def numbers(objects) -> list[int]:
    return [int(each.uid, 16) for each in objects]


def rows_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_only_licences_that_allow_everything_but_forgetting_the_author_are_permissive():
    assert sorted(PERMISSIVE) == ["by", "cc0"]
    assert Criteria().licenses == PERMISSIVE
    assert [slug for slug, each in LICENSES.items() if not each.attribution] == ["cc0"]


def test_creative_commons_licences_are_named_as_spdx_and_their_own_site_do():
    assert LICENSES["by-nc-sa"].name == "CC-BY-NC-SA-4.0"
    assert LICENSES["by-nc-sa"].url == "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    assert LICENSES["cc0"].url == "https://creativecommons.org/publicdomain/zero/1.0/"


def test_a_licence_that_sketchfab_lacks_is_refused():
    with pytest.raises(InputError, match=r"'gpl'.*cc0, by, by-sa"):
        Criteria(frozenset({"by", "gpl"}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"animationCount": 0}, Mismatch.animations),
        ({"animationCount": None}, Mismatch.animations),
        ({"license": "by-nc"}, Mismatch.licence),
        ({"license": None}, Mismatch.licence),
        ({"license": {"slug": "by"}}, Mismatch.licence),
        ({"faceCount": 99}, Mismatch.faces),
        ({"faceCount": 500_001}, Mismatch.faces),
        ({"archives": {"glb": {"size": 100_000_001}}}, Mismatch.bytes),
        ({"isAgeRestricted": True}, Mismatch.age_restricted),
    ],
)
def test_an_object_that_fails_a_criterion_is_mismatches_for_it(hub, changes, reason):
    hub.publish([make_annotation(1), make_annotation(2, **changes)])
    found = find_objects(Criteria())
    assert numbers(found.objects) == [1]
    assert found.mismatches == {reason: 1}


def test_the_test_set_of_consistent4d_is_left_out_by_default(hub):
    test_object = sorted(CONSISTENT4D)[0]
    hub.publish([make_annotation(1), make_annotation(int(test_object, 16), faceCount=200)])
    found = find_objects(Criteria())
    assert numbers(found.objects) == [1] and found.mismatches == {Mismatch.test_set: 1}
    assert len(find_objects(Criteria(excluded=frozenset())).objects) == 2


def test_limits_are_inclusive(hub):
    hub.publish(
        [
            make_annotation(1, faceCount=100, archives={"glb": {"size": 10**8}}),
            make_annotation(2, faceCount=500_000, archives={}),
        ]
    )
    assert numbers(find_objects(Criteria()).objects) == [1, 2]


def test_facts_of_an_object_are_read_from_its_metadata(hub):
    [first, *_] = find_objects(Criteria()).objects
    assert (first.name, first.author, first.faces) == ("Object 0", "Author 0", 1000)
    assert first.license is LICENSES["by"]
    assert first.bytes == len(make_glb(0))


def test_missing_metadata_gets_conservative_defaults(hub):
    broken = {"name": None, "user": None, "viewerUrl": 7, "archives": [1]}
    hub.publish([make_annotation(1, **broken), make_annotation(2, name=" a\n\ud800b ")])
    first, second = find_objects(Criteria()).objects
    assert (first.name, first.author, first.bytes) == (uid_of(1), "unknown", None)
    assert first.source == f"https://sketchfab.com/3d-models/{uid_of(1)}"
    assert second.name == "a ?b"


def test_an_index_that_leads_elsewhere_is_not_followed(hub, tmp_path):
    paths = {uid_of(1): "../../../etc/x.glb", "../x": "glbs/000-000/../x.glb"}
    hub.files["object-paths.json.gz"] = gzip.compress(json.dumps(paths).encode())
    assert find_objects(Criteria()).objects == ()


def test_a_list_of_uids_narrows_the_search_and_fetches_only_its_metadata(hub):
    found = find_objects(Criteria(), [uid_of(4), uid_of(99), uid_of(5)])
    assert numbers(found.objects) == [4, 5]
    assert found.unknown == (uid_of(99),)
    assert found.mismatches == {Mismatch.unknown: 1}
    assert hub.requests == ["object-paths.json.gz", "metadata/000-001.json.gz"]


def test_metadata_is_read_folder_by_folder_with_progress(hub, capsys):
    hub.publish([make_annotation(number) for number in range(12)], objects_in_folder=2)
    steps = []
    found = find_objects(Criteria(), on_step=lambda state: steps.append(state[1:3]))
    assert numbers(found.objects) == list(range(12))
    assert steps == [(done, 12) for done in range(2, 13, 2)]
    assert capsys.readouterr() == ("", "")


def test_a_draw_depends_on_the_seed_and_on_nothing_else(hub):
    objects = list(find_objects(Criteria()).objects)
    shuffled = random.Random(3).sample(objects, len(objects))
    assert sample(objects, 4, seed=1) == sample(shuffled, 4, seed=1)
    assert sample(objects, 4, seed=1)[:2] == sample(objects, 2, seed=1)
    assert len({tuple(numbers(sample(objects, 3, seed))) for seed in range(20)}) > 10
    assert sorted(numbers(sample(objects, None, seed=1))) == numbers(objects)


def test_a_draw_is_even(hub):
    objects = find_objects(Criteria()).objects
    drawn = [number for seed in range(600) for number in numbers(sample(objects, 2, seed))]
    assert all(150 < drawn.count(number) < 250 for number in range(6))


def test_totals_add_up_by_licence(hub):
    hub.publish(
        [make_annotation(number, license="cc0" if number < 2 else "by") for number in range(5)]
    )
    totals = find_objects(Criteria()).totals
    assert list(totals) == ["cc0", "by"]
    assert totals["cc0"].objects == 2
    assert totals["by"].faces == 1002 + 1003 + 1004
    assert totals["by"].bytes == sum(len(make_glb(number)) for number in (2, 3, 4))


@pytest.mark.parametrize("form", ["\n".join, json.dumps, "\r\n\r\n".join])
def test_uids_are_read_from_lines_or_json_each_once(tmp_path, form):
    (tmp_path / "uids").write_text(form([uid_of(2), uid_of(1), uid_of(2)]))
    assert read_uids(tmp_path / "uids") == [uid_of(2), uid_of(1)]


@pytest.mark.parametrize("text", ["", "[]", "../etc/passwd", "[1]", "[", "ABC"])
def test_a_list_of_something_else_than_uids_is_refused(tmp_path, text):
    (tmp_path / "uids").write_text(text)
    with pytest.raises(InputError, match="uid"):
        read_uids(tmp_path / "uids")


def test_a_download_brings_files_rows_and_credits(hub, tmp_path, capsys):
    hub.publish([make_annotation(1, license="cc0"), make_annotation(2, name="A [b] *c*")])
    steps = []
    objects = find_objects(Criteria()).objects
    done = download_objects(objects, tmp_path / "out", 2, lambda state: steps.append(state[1:3]))
    assert done.already_there == 0
    assert done.failures == {}
    assert steps == [(1, 2), (2, 2)]
    assert capsys.readouterr() == ("", "")
    assert set(contents(tmp_path / "out")) == {
        f"{uid_of(1)}.glb",
        f"{uid_of(2)}.glb",
        "objects.jsonl",
        "ATTRIBUTION.md",
    }
    first, second = rows_of(tmp_path / "out" / "objects.jsonl")
    assert first["licence"] == "CC0-1.0"
    assert second == {
        "file": f"{uid_of(2)}.glb",
        "uid": uid_of(2),
        "name": "A [b] *c*",
        "licence": "CC-BY-4.0",
        "licence_url": "https://creativecommons.org/licenses/by/4.0/",
        "author": "Author 2",
        "author_url": "https://sketchfab.com/user2",
        "source": f"https://sketchfab.com/3d-models/{uid_of(2)}",
        "faces": 1002,
        "animations": 1,
        "bytes": len(make_glb(2)),
        "sha256": hashlib.sha256(make_glb(2)).hexdigest(),
    }
    credits = (tmp_path / "out" / "ATTRIBUTION.md").read_text()
    assert uid_of(1) not in credits
    assert "[A \\[b\\] \\*c\\*](<https://sketchfab.com/3d-models/" in credits
    assert "by [Author 2](<https://sketchfab.com/user2>), [CC-BY-4.0]" in credits


def test_rows_are_read_as_origins_by_the_renderer(hub, tmp_path):
    download_objects(find_objects(Criteria()).objects, tmp_path / "out")
    origins = read_origins(tmp_path / "out" / "objects.jsonl")
    origin = origins[(tmp_path / "out").resolve() / f"{uid_of(3)}.glb"]
    assert (origin.licence, origin.author) == ("CC-BY-4.0", "Author 3")


def test_files_share_their_space_with_the_cache_or_are_copied(hub, tmp_path, monkeypatch):
    objects = find_objects(Criteria()).objects
    download_objects(objects[:1], tmp_path / "linked")
    assert (tmp_path / "linked" / f"{uid_of(0)}.glb").samefile(hub.cached(hub.glb_path(0)))

    def refuse(self, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    download_objects(objects[:1], tmp_path / "copied")
    assert (tmp_path / "copied" / f"{uid_of(0)}.glb").read_bytes() == make_glb(0)


def test_cached_files_are_not_downloaded_again(hub, tmp_path, monkeypatch):
    objects = find_objects(Criteria()).objects
    download_objects(objects, tmp_path / "a")
    go_offline(monkeypatch)
    assert find_objects(Criteria()).objects == objects
    assert len(download_objects(objects, tmp_path / "b").records) == 6


def test_a_second_run_fetches_only_what_is_missing(hub, tmp_path):
    objects = find_objects(Criteria()).objects
    download_objects(objects[:4], tmp_path / "out")
    hub.requests.clear()
    done = download_objects(objects[2:], tmp_path / "out")
    assert done.already_there == 2
    assert numbers(done.records.values()) == [2, 3, 4, 5]
    assert sorted(hub.requests) == [hub.glb_path(4), hub.glb_path(5)]
    assert len(rows_of(tmp_path / "out" / "objects.jsonl")) == 6
    before = contents(tmp_path / "out")
    download_objects(objects, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_missing_object_is_reported_and_the_others_are_downloaded(hub, tmp_path):
    hub.refused[hub.glb_path(2)] = 404
    objects = find_objects(Criteria()).objects
    done = download_objects(objects, tmp_path / "out")
    assert len(done.records) == 5
    [failure] = rows_of(tmp_path / "out" / "failures.jsonl")
    assert failure["uid"] == uid_of(2)
    assert "404" in failure["reason"]
    hub.refused.clear()
    download_objects(objects, tmp_path / "out")
    assert not (tmp_path / "out" / "failures.jsonl").exists()
    assert len(read_records(tmp_path / "out")) == 6


@pytest.mark.parametrize("content", [b"", b"<html>sign in</html>", make_glb(3)[:-1]])
def test_an_incomplete_glb_is_not_kept(hub, tmp_path, content):
    hub.files[hub.glb_path(3)] = content
    done = download_objects(find_objects(Criteria()).objects, tmp_path / "out")
    assert list(done.failures) == [uid_of(3)]
    assert not (tmp_path / "out" / f"{uid_of(3)}.glb").exists()


def test_a_damaged_file_of_the_cache_is_downloaded_again(hub, tmp_path):
    objects = find_objects(Criteria()).objects
    download_objects(objects, tmp_path / "first")
    (tmp_path / "first" / f"{uid_of(1)}.glb").unlink()  # it is the same file as the cache's
    hub.cached(hub.glb_path(1)).write_bytes(make_glb(1)[:-5])
    assert download_objects(objects, tmp_path / "second").failures == {}
    assert (tmp_path / "second" / f"{uid_of(1)}.glb").read_bytes() == make_glb(1)


def test_offline_the_search_ends_with_a_hint(hub, monkeypatch):
    go_offline(monkeypatch)
    with pytest.raises(DownloadError, match=r"object-paths\.json\.gz") as caught:
        find_objects(Criteria())
    assert caught.value.connection
    assert "network" in str(caught.value.hint)


def test_offline_a_download_stops_after_a_few_objects(hub, tmp_path, monkeypatch):
    objects = find_objects(Criteria()).objects
    download_objects(objects[:1], tmp_path / "out")
    hub.publish([make_annotation(number) for number in range(40)])
    go_offline(monkeypatch)
    with pytest.raises(DownloadError, match="cannot be reached"):
        download_objects(objects, tmp_path / "out", workers=1)
    assert list(read_records(tmp_path / "out")) == [uid_of(0)]
    assert len(rows_of(tmp_path / "out" / "failures.jsonl")) == 4


def test_a_single_object_that_is_not_reached_is_an_error(hub, tmp_path, monkeypatch):
    objects = find_objects(Criteria()).objects
    go_offline(monkeypatch)
    with pytest.raises(DownloadError, match="cannot be reached"):
        download_objects(objects[:1], tmp_path / "out")


@pytest.mark.parametrize("name", ["object-paths.json.gz", "metadata/000-001.json.gz"])
def test_damaged_metadata_of_the_cache_is_downloaded_again(hub, name):
    find_objects(Criteria())
    hub.cached(name).write_bytes(hub.files[name][:-9])
    assert len(find_objects(Criteria()).objects) == 6
    assert hub.cached(name).read_bytes() == hub.files[name]


def test_metadata_that_is_damaged_at_its_source_is_an_error(hub):
    hub.files["metadata/000-000.json.gz"] = b"<html>sign in</html>"
    with pytest.raises(DownloadError, match="damaged"):
        find_objects(Criteria())


def test_a_full_disk_is_the_systems_own_error(hub, tmp_path, monkeypatch):
    objects = find_objects(Criteria()).objects

    def refuse(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr("shutil.copyfile", refuse)
    with pytest.raises(OSError, match="No space left"):
        download_objects(objects, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.glb"))
    assert not list((tmp_path / "out").glob(".*"))


def test_an_interruption_keeps_downloaded_files_with_rows_and_credits(hub, tmp_path):
    objects = find_objects(Criteria()).objects
    threads = threading.active_count()

    def interrupt(state):
        if state.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_objects(objects, tmp_path / "out", workers=1, on_step=interrupt)
    assert len(read_records(tmp_path / "out")) == 2
    assert len((tmp_path / "out" / "ATTRIBUTION.md").read_text().split("- `")) == 3
    deadline = time.monotonic() + 10  # the server's own threads end a moment after their answers
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= threads
    assert len(download_objects(objects, tmp_path / "out").records) == 6


def test_a_torn_row_is_made_again_without_a_download(hub, tmp_path):
    objects = find_objects(Criteria()).objects
    download_objects(objects, tmp_path / "out")
    table = tmp_path / "out" / "objects.jsonl"
    whole = table.read_bytes()
    table.write_bytes(whole[:-20])
    hub.requests.clear()
    assert download_objects(objects, tmp_path / "out").already_there == 5
    assert table.read_bytes() == whole
    assert hub.requests == []


def test_a_file_that_lost_its_end_is_neither_kept_silently_nor_overwritten(hub, tmp_path):
    objects = find_objects(Criteria()).objects[:2]
    download_objects(objects, tmp_path / "out")
    path = tmp_path / "out" / f"{uid_of(1)}.glb"
    path.unlink()
    path.write_bytes(make_glb(1)[:-3])
    done = download_objects(objects, tmp_path / "out")
    assert "remove it" in done.failures[uid_of(1)]
    assert path.read_bytes() == make_glb(1)[:-3]
    assert list(read_records(tmp_path / "out")) == [uid_of(0)]


def test_a_table_of_something_else_is_refused_and_kept(hub, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "objects.jsonl").write_text('{"file": "a.glb"}\n{"file": "b.glb"}\n')
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="line 1"):
        download_objects(find_objects(Criteria()).objects, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_credits_of_something_else_are_not_overwritten(hub, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ATTRIBUTION.md").write_text("mine")
    before = contents(tmp_path / "out")
    with pytest.raises(OutputExistsError, match=r"ATTRIBUTION\.md.*another folder"):
        download_objects(find_objects(Criteria()).objects, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_where_no_licence_asks_for_credit_there_is_no_file_of_credits(hub, tmp_path):
    hub.publish([make_annotation(1, license="cc0")])
    download_objects(find_objects(Criteria()).objects, tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {f"{uid_of(1)}.glb", "objects.jsonl"}


def test_a_file_where_the_folder_belongs_is_refused(hub, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        download_objects(find_objects(Criteria()).objects, tmp_path / "out")
