"""mkgguf.py OUT TYPE LAYERS HIDDEN FFN HEADS KV VOCAB: a random Llama of that shape, blocks of random codes and one scale."""
import sys, numpy as np, gguf
out, kind, L, H, F, nh, kv, V = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:9])
T = gguf.GGMLQuantizationType
rng = np.random.default_rng(0)
head = {"Q8_0": ("d", 32, T.Q8_0, 73), "Q4_0": ("d", 16, T.Q4_0, 4.6), "Q4_1": ("dm", 16, T.Q4_1, 4.6)}[kind]
def q(rows, cols):
    n = rows * cols // 32
    scale = np.float16(cols ** -0.5 / head[3])
    extra = b"" if head[0] == "d" else np.float16(-7.5 * float(scale)).tobytes()
    pre = np.frombuffer(scale.tobytes() + extra, np.uint8)
    a = np.empty((n, len(pre) + head[1]), np.uint8)
    a[:, :len(pre)] = pre
    a[:, len(pre):] = np.frombuffer(rng.bytes(n * head[1]), np.uint8).reshape(n, head[1])
    return a.reshape(rows, -1)
w = gguf.GGUFWriter(out, "llama", use_temp_file=False)
w.add_name("random"); w.add_context_length(8192); w.add_embedding_length(H); w.add_block_count(L); w.add_feed_forward_length(F)
w.add_head_count(nh); w.add_head_count_kv(kv); w.add_layer_norm_rms_eps(1e-5); w.add_rope_freq_base(10000.0); w.add_rope_dimension_count(H // nh); w.add_vocab_size(V)
w.add_file_type({"Q8_0": 7, "Q4_0": 2, "Q4_1": 3}[kind])
r = gguf.GGUFReader("/tmp/d/SmolLM2-135M-Instruct.Q8_0.gguf")
for name, f in r.fields.items():
    if name.startswith("tokenizer."):
        v = f.contents()
        if isinstance(v, list): w.add_array(name, v)
        elif isinstance(v, bool): w.add_bool(name, v)
        elif isinstance(v, int): w.add_uint32(name, v)
        else: w.add_string(name, v)
d = H // nh
one = np.ones(H, np.float32)
def plan():
    yield "token_embd.weight", V, H; yield "output.weight", V, H
    for i in range(L):
        b = f"blk.{i}."
        for n, o, c in (("attn_q", nh*d, H), ("attn_k", kv*d, H), ("attn_v", kv*d, H), ("attn_output", H, nh*d), ("ffn_gate", F, H), ("ffn_up", F, H), ("ffn_down", H, F)):
            yield b + n + ".weight", o, c
norms = ["output_norm.weight"] + [f"blk.{i}.{n}.weight" for i in range(L) for n in ("attn_norm", "ffn_norm")]
per = len(q(1, 32)[0])
for name, o, c in plan():
    w.add_tensor_info(name, (o, c // 32 * per), np.dtype(np.uint8), o * c // 32 * per, raw_dtype=head[2])
for n in norms: w.add_tensor_info(n, one.shape, one.dtype, one.nbytes)
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_ti_data_to_file()
for name, o, c in plan(): w.write_tensor_data(q(o, c))
for n in norms: w.write_tensor_data(one)
w.close()
