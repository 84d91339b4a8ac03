"""What dsedge and the scripts of a device must hold alike: which graph is built, and which outputs are good enough."""

# What each TensorRT reads, the preferred one first. Builder flags of precision ended with 11; strong typing is complete
# from 10 on (release notes of 10.0 and 11.0).
TYPINGS = (((8, 5), ("weak",)), ((10, 0), ("strong", "weak")), ((11, 0), ("strong",)), ((12, 0), ()))

ROUNDED_DB = 40.0
"""What is near enough to the float model for an engine that computes in float16, bfloat16 or TF32: all three keep 8 to
11 bits of a number."""

OFF = 3
"""How `verify.py` ends where the golden outputs are off; what only kept it from looking ends otherwise."""


def expected(graph_db, recorded_db, is_exact):
    """The SQNR to come near: what the graph reached, or less where products in float16 or TF32 round too.

    Args:
        graph_db: of each output in dB, of the graph that the engine is built from, as in build.json; None where the
            manifest is about that graph.
        recorded_db: the same in the manifest; a number is None where the output was identical.
        is_exact: whether the engine computes in float32 and without TF32.
    """
    wanted = recorded_db if graph_db is None else graph_db
    return [r if is_exact else min(ROUNDED_DB if r is None else r, ROUNDED_DB) for r in wanted]
