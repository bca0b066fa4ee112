def test_generate_says_that_it_is_not_built_yet(fourdvd, tmp_path):
    outcome = fourdvd("generate", tmp_path / "x.mp4", "-o", tmp_path / "grid")
    assert outcome.exit_code == 1
    assert "not built yet" in outcome.stderr
    assert not (tmp_path / "grid").exists()
