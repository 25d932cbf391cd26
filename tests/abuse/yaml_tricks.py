"""YAML that means harm, for recipes and for arrangements."""

from hypothesis import strategies as st

KEYS = st.sampled_from(
    ["name", "data", "budget", "model", "folders", "path", "steps", "time", "family", "width", "seed", "linearity", "x"]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=5), st.dates(),
    st.sampled_from(["frame", "unet", "25m", "1e-3", "", "~"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=4),
    max_leaves=12,
)

NESTED = b"[" * 5000
LAUGHS = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 30)
)
