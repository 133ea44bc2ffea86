import re
p='/work/wt/nodes/export/medusa_export/graph/attention_split.py'
s=open(p).read()
a=s.index('    """Computes once a run what all layers use."""'); e=s.index('def windowed(')
s=s[:a]+'''    """Computes once a run what all layers use."""
    heads_a_group = config.query_heads // config.kv_heads
    positions = b.node("Unsqueeze", [position_ids, b.ints(0)])
    past = b.node("Shape", ["past_key.0"], start=2, end=3)  # [1]: C
    sizes = b.node("Concat", [past, b.node("Shape", [position_ids])], axis=0)
    biases = {}
    for window in sorted(set(config.windows or (0,))):
        own = windowed(b, bias, position_ids, window) if window else bias
        biases[window] = b.sized(b.node("Concat", [own] * heads_a_group, axis=0), [f"{heads_a_group}n", "C + n"])
    return SplitInputs(positions, biases, sizes, tables, local)


'''+s[e:]
s=s.replace('''    biases: dict[int, tuple[str, str]]
''','''    biases: dict[int, str]
    sizes: str
''')
a=s.index('    grouped = b.reshape(q, (1, groups, 1'); e=s.index('def _rounded(')
s=s[:a]+'''    rows = f"{heads // groups}n"
    grouped = b.reshape(q, (1, groups, -1, size), rows)
    BL = int(os.environ.get("BL", "4"))
    W = f"C/{BL}"
    if BL > 1:
        each = b.reshape(q, (1, groups, 1, -1, size), rows)
        pk, pv = (b.reshape(x, (1, groups, BL, -1, size), W) for x in (past_key, past_value))
        old = b.contrib("FusedMatMul", [each, pk], transB=1, alpha=config.score_scale)
        old = b.node("Transpose", [old], perm=[0, 1, 3, 2, 4])
        old = b.sized(b.node("Reshape", [old, b.ints(0, 0, 0, -1)]), [1, groups, rows, "C"])
    else:
        old = b.contrib("FusedMatMul", [grouped, past_key], transB=1, alpha=config.score_scale)
    new = b.contrib("FusedMatMul", [grouped, k], transB=1, alpha=config.score_scale)
    scores = b.node("Concat", [old, new], axis=-1)
    scores = b.node("Add", [scores, shared.biases[window]])
    top = b.node("ReduceMax", [scores, b.ints(-1)], keepdims=1)
    base = b.node("Sub", [top, b.constant("f32.log_unit", float(np.log(UNIT)))])
    e = _rounded(b, b.node("Exp", [b.node("Sub", [scores, base])]))
    factor = b.node("Div", [b.constant("f32.unit", float(UNIT)), b.node("ReduceSum", [e, b.ints(-1)], keepdims=1)])
    p = _rounded(b, b.node("Mul", [e, factor]))
    p_old, p_new = b.nodes("Split", [p, shared.sizes], [name + ".p_old", name + ".p_new"], axis=-1)
    b.sized(p_old, [1, groups, rows, "C"]), b.sized(p_new, [1, groups, rows, "n"])
    if BL > 1:
        p_old = b.sized(b.node("Reshape", [p_old, b.ints(0, 0, 0, BL, -1)]), [1, groups, rows, BL, W])
        p_old = b.node("Transpose", [p_old], perm=[0, 1, 3, 2, 4])
        m_old = b.contrib("FusedMatMul", [p_old, pv], alpha=1 / UNIT)
        m_old = b.node("ReduceSum", [m_old, b.ints(2)], keepdims=0)
    else:
        m_old = b.contrib("FusedMatMul", [p_old, past_value], alpha=1 / UNIT)
    m_new = b.contrib("FusedMatMul", [p_new, v], alpha=1 / UNIT)
    mixed = b.node("Add", [m_old, m_new])
    rows_ = b.node("Transpose", [b.reshape(mixed, (1, heads, -1, size), "n")], perm=[0, 2, 1, 3])
    return b.reshape(rows_, (-1, heads * size), "n", name=name + ".mixed"), k, v


'''+s[e:]
a=s.index('def _top('); s=s[:a].rstrip()+'\n'
s=s.replace('from dataclasses import','import os\nfrom dataclasses import')
open(p,'w').write(s)
