"""Ask DVC where things are and whether its default remote answers: a process of its own, so that it can be ended.

    python -P stages/remote.py        (-P: the stages beside it must not hide other packages)

Prints a line of JSON with `cache`, `remote` and `url` at once, and a second one with `there` when the remote has
answered: true, or false where nothing has been pushed yet. Anything else ends it with an error.
"""

import json


def main() -> None:
    from dvc.repo import Repo

    repo = Repo()
    name = repo.config["core"].get("remote")
    url = repo.config["remote"][name].get("url") if name else None
    print(json.dumps({"cache": repo.cache.local.path, "remote": name, "url": url}), flush=True)
    if name:
        remote = repo.cloud.get_remote(name)
        print(json.dumps({"there": bool(remote.fs.exists(remote.path))}), flush=True)


if __name__ == "__main__":
    main()
