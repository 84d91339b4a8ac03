"""`dsedge verify`."""

from __future__ import annotations

from dsedge.cli.options import BundleArgument, Json
from dsedge.cli.output import print_json, show


def verify(bundle: BundleArgument, json: Json = False) -> None:
    """Compare a bundle's files with their hashes, and its golden outputs with what the runtime computes here."""
    from dsedge.bundle import Bundle
    from dsedge.report.terminal import verification
    from dsedge.verify import verify_bundle

    opened = Bundle(bundle)
    found = verify_bundle(opened)
    if json:
        manifest = opened.manifest
        facts = {"status": manifest.status, "runtime": manifest.runtime.model_dump(), "files": len(manifest.files)}
        print_json({"bundle": str(opened.path), **facts, **found})
    else:
        show(verification(opened, found))
