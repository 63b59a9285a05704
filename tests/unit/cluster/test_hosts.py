from dsdr_verl.cluster.hosts import absent


def test_names_are_looked_up_and_unknown_ones_are_absent():
    assert absent(["localhost", "10.0.0.1"], {"127.0.0.1", "10.0.0.1"}) == []
    assert absent(["localhost", "10.0.0.2", "no-such-host.invalid"], {"10.0.0.1"}) == [
        "localhost", "10.0.0.2", "no-such-host.invalid"
    ]  # fmt: skip
