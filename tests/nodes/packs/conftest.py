"""What is about real packs is collected where ``I2AM_PACKS`` names a folder with clones of them: see real_packs.py."""

import real_packs

collect_ignore_glob = [] if real_packs.FOLDER else ["test_*.py"]


def pytest_report_header() -> str:
    if not real_packs.FOLDER:
        return "real packs: not tested, I2AM_PACKS names no folder"
    return "real packs: " + ", ".join(f"{name} {real_packs.commit_of(name)}" for name in real_packs.TRIED)
