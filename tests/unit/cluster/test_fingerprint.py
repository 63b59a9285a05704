from dataclasses import replace

from dsdr_verl.cluster.fingerprint import Fingerprint, fingerprint

OURS = Fingerprint("3.11.7", {"dsdr_verl/a.py": "1", "dsdr_verl/b.py": "2"}, {"ray": "2.60.0", "torch": "2.13.0"})


def test_of_this_process():
    own = fingerprint()
    assert own.plugin == ""
    assert own.files.keys() >= {"dsdr_verl/plugin.py", "dsdr_verl.conf/algorithm/dsdr.yaml"}
    assert own.packages["verl"] == "0.9.1"
    assert own.differences(own) == []


def test_differences_are_named():
    assert OURS.differences(OURS) == []
    assert OURS.differences(replace(OURS, python="3.12.1")) == ["Python 3.12.1 against 3.11.7"]
    assert OURS.differences(replace(OURS, files=OURS.files | {"dsdr_verl/b.py": "3"})) == ["other code: dsdr_verl/b.py"]
    assert OURS.differences(replace(OURS, packages={"ray": "2.59.0"})) == [
        "other packages: ray 2.59.0 against 2.60.0, torch missing against 2.13.0"
    ]
    assert "RuntimeError: no" in OURS.differences(replace(OURS, plugin="RuntimeError: no"))[0]


def test_many_differences_are_counted():
    other = replace(OURS, files={f"dsdr_verl/{i}.py": "" for i in range(10)})
    assert OURS.differences(other) == [
        "other code: dsdr_verl/0.py, dsdr_verl/1.py, dsdr_verl/2.py, dsdr_verl/3.py and 8 more"
    ]
