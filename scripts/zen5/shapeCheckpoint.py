import sys, json, torch, shutil, os
from safetensors.torch import save_file
out, L, H, F, nh, kv, V = sys.argv[1], *map(int, sys.argv[2:8])
os.makedirs(out, exist_ok=True)
torch.manual_seed(0); torch.set_num_threads(2)
d = H // nh
def r(*s): return (torch.randn(*s) * (s[-1] ** -0.5)).to(torch.float16)
index = {}; total = 0
def save(name, t):
    global total
    for k in t: index[k] = name
    save_file(t, f"{out}/{name}", metadata={"format": "pt"})
save("model-emb.safetensors", {"model.embed_tokens.weight": torch.randn(V, H).to(torch.float16), "lm_head.weight": r(V, H), "model.norm.weight": torch.ones(H, dtype=torch.float16)})
for i in range(L):
    p = f"model.layers.{i}."
    save(f"model-{i:02}.safetensors", {
     p+"self_attn.q_proj.weight": r(nh*d, H), p+"self_attn.k_proj.weight": r(kv*d, H), p+"self_attn.v_proj.weight": r(kv*d, H), p+"self_attn.o_proj.weight": r(H, nh*d),
     p+"mlp.gate_proj.weight": r(F, H), p+"mlp.up_proj.weight": r(F, H), p+"mlp.down_proj.weight": r(H, F),
     p+"input_layernorm.weight": torch.ones(H, dtype=torch.float16), p+"post_attention_layernorm.weight": torch.ones(H, dtype=torch.float16)})
json.dump({"metadata": {}, "weight_map": index}, open(f"{out}/model.safetensors.index.json", "w"))
json.dump(dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=H, intermediate_size=F, num_hidden_layers=L, num_attention_heads=nh, num_key_value_heads=kv, head_dim=d, vocab_size=V, rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=8192, tie_word_embeddings=False, hidden_act="silu", torch_dtype="float16", bos_token_id=1, eos_token_id=2, attention_bias=False, mlp_bias=False), open(f"{out}/config.json", "w"))
for f in ("tokenizer.json", "tokenizer_config.json"): shutil.copy(f"/work/main/onnx/smollm2-135m-instruct/{f}", out)
