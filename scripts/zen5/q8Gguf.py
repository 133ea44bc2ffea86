import sys, numpy as np, gguf
from gguf.quants import dequantize, quantize
src, dst = sys.argv[1:]
r = gguf.GGUFReader(src)
arch = r.fields['general.architecture'].contents()
w = gguf.GGUFWriter(dst, arch)
for f in r.fields.values():
    if f.name in ('general.architecture',) or f.name.startswith('GGUF.'): continue
    v = f.contents()
    if f.name == 'general.file_type': v = 7
    t = f.types[0]
    w.add_key_value(f.name, v, t, f.types[-1] if t == gguf.GGUFValueType.ARRAY else None)
Q = gguf.GGMLQuantizationType
for t in r.tensors:
    if t.tensor_type in (Q.F32, Q.F16): w.add_tensor(t.name, t.data, raw_dtype=t.tensor_type)
    else:
        x = dequantize(t.data, t.tensor_type).astype(np.float32)
        w.add_tensor(t.name, quantize(x, Q.Q8_0), raw_dtype=Q.Q8_0)
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
