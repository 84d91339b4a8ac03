"""What the scripts of a bundle share: hashes, files that are whole when they have their name, and how a script ends."""

import hashlib
import subprocess
import sys


class Refused(Exception):
    """A reason not to go on, for the user."""


def sha256(path):
    """sha256 of a file, in hex."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            made.update(piece)
    return made.hexdigest()


def publish(files):
    """Write files, each {path: bytes}, under other names first: they get their own when all of them are whole.

    Raises:
        OSError: naming the file that could not be written, the disk being full, say.
    """
    new = {path: path.with_name(path.name + ".new") for path in files}
    try:
        for path, data in files.items():
            try:
                new[path].write_bytes(data)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None
        for path in files:
            new[path].replace(path)
    finally:
        for left in new.values():
            if left.exists():
                left.unlink()


def script(name, main):
    """Run a script's main function; whatever goes wrong is one line, and the process ends with 2, or 130."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        print(f"{name}: {error.cmd[1]} ended with {error.returncode}", file=sys.stderr)
    except MemoryError:
        print(f"{name}: this machine's memory is not enough", file=sys.stderr)
    except (Refused, ImportError, OSError, RuntimeError, ValueError, KeyError) as error:
        print(f"{name}: {error}", file=sys.stderr)
    except Exception as error:  # a file of the bundle that is another one, or a TensorRT that lacks a name
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(2)
