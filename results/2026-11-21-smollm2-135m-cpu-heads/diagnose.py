"""Why held-out 2.27 but MT-Bench 2.00? (a) state precision, (b) overlap with training text. Diagnosis only."""

# usage: python diagnose.py MODEL.gguf medusa1.safetensors DATA ANSWERS   (from the repository root)
import sys

sys.path.insert(0, "export")
import torch

torch.set_num_threads(1)
from evaluate_heads import *
from evaluate_heads import first_tokens

G, HEADS, DATA, ANSWERS = sys.argv[1:5]
h, s = load_heads(HEADS)
T = s["temperatures"]
acc = np.array(s["accuracies"])[:, :32]


def sims(r, hid=None):
    hid = r.hidden if hid is None else hid
    pl = propose(h, hid, 32)
    te = propose(h, hid, 32, T)
    return (
        simulate(pl, r.tokens, r.offsets, static_tree(acc, 64), 128),
        simulate(te, r.tokens, r.offsets, dynamic_tree(te, 64), 128),
        rank_accuracies(pl, r)[:, 0].round(4),
    )


va = load_rollouts(DATA, ("validation",))
va = first_tokens(va.select(va.temperature == 0), 128)
mt = first_tokens(load_all(Path(ANSWERS)), 128)
tr = load_rollouts(DATA, ("train",))


def paired(a, b):
    A = np.array(a.per_answer)
    B = np.array(b.per_answer)
    rng = np.random.default_rng(0)
    p = rng.integers(len(A), size=(2000, len(A)))
    g = (B[p, 0].sum(1) / B[p, 1].sum(1)) / (A[p, 0].sum(1) / A[p, 1].sum(1)) - 1
    return (100 * np.percentile(g, [2.5, 50, 97.5])).round(2)


# b: 8-gram overlap with training answers
N = 8
seen = set()
for a in range(len(tr.sources)):
    t = tr.tokens[tr.offsets[a] : tr.offsets[a + 1]].astype(np.int32)
    for i in range(len(t) - N + 1):
        seen.add(t[i : i + N].tobytes())


def overlap(r):
    o = []
    for a in range(len(r.sources)):
        t = r.tokens[r.offsets[a] : r.offsets[a + 1]].astype(np.int32)
        n = max(1, len(t) - N + 1)
        o.append(sum(t[i : i + N].tobytes() in seen for i in range(len(t) - N + 1)) / n)
    return np.array(o)


def selfrep(r):
    o = []
    for a in range(len(r.sources)):
        t = r.tokens[r.offsets[a] : r.offsets[a + 1]].astype(np.int32)
        g = [t[i : i + 4].tobytes() for i in range(len(t) - 3)]
        o.append(1 - len(set(g)) / max(1, len(g)))
    return np.array(o)


for name, r in (("validation", va), ("mt-bench", mt)):
    st, dy, t1 = sims(r)
    o = overlap(r)
    sr = selfrep(r)
    print(
        name,
        "static",
        round(st.tokens_per_step, 4),
        "dyn",
        round(dy.tokens_per_step, 4),
        "top1",
        t1,
        "paired gain %",
        paired(st, dy),
    )
    print(
        "  8-gram share also in training answers: mean",
        o.mean().round(4),
        "quartiles",
        np.percentile(o, [25, 50, 75, 90]).round(3),
        "own 4-gram repetition",
        sr.mean().round(4),
    )
    P = np.array(dy.per_answer)
    for lo, hi in ((-1, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 1.1)):
        m = (o > lo) & (o <= hi)
        if m.any():
            print(
                "   overlap in (%.2f,%.2f]: answers %d tokens/step %.3f own-repetition %.3f"
                % (lo, hi, m.sum(), P[m, 0].sum() / P[m, 1].sum(), sr[m].mean()),
                flush=True,
            )
# a: the same validation text, states recomputed in fp32; and the training split for reference
sub = tr.select((tr.temperature == 0) & (np.arange(len(tr.sources)) % 16 == 0))
sub = first_tokens(sub, 128)
st, dy, t1 = sims(sub)
print(
    "TRAIN answers (seen)",
    len(sub.sources),
    "static",
    round(st.tokens_per_step, 3),
    "dyn",
    round(dy.tokens_per_step, 3),
    t1,
    flush=True,
)


def states(r, dtype):
    bb = load_backbone(G, dtype)
    ctx = [np.frombuffer(c, np.int32) for c in r.contexts]
    A = len(ctx)
    seqs = [np.concatenate((ctx[a], r.tokens[r.offsets[a] : r.offsets[a + 1]])) for a in range(A)]
    L = max(map(len, seqs))
    out = np.zeros(r.hidden.shape, np.float16)
    c = bb.new_cache(A, L)
    for i in range(L):
        t = torch.tensor([int(q[i]) if i < len(q) else 0 for q in seqs])
        H = bb.step(t, torch.full((A,), i), c).numpy()
        for a in range(A):
            j = i - (len(ctx[a]) - 1)
            if 0 <= j < r.offsets[a + 1] - r.offsets[a]:
                out[r.offsets[a] + j] = H[a]
    return out


for name, r, dt in (("validation fp32 states", va, torch.float32), ("mt-bench bf16 states", mt, torch.bfloat16)):
    hid = states(r, dt)
    st, dy, t1 = sims(r, hid)
    d = hid.astype(np.float32) - r.hidden.astype(np.float32)
    print(
        name,
        "static",
        round(st.tokens_per_step, 4),
        "dyn",
        round(dy.tokens_per_step, 4),
        t1,
        "rms diff",
        float(np.sqrt((d**2).mean())),
        "rms",
        float(np.sqrt((r.hidden.astype(np.float32) ** 2).mean())),
        flush=True,
    )
