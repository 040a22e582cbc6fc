"""Writes vision/*: small image models with random weights, and vision-tiny.json: what transformers computes with them in float32 of a formula's pixels.

Every feature of a config that the families read is on in one of them: both kinds of residual blocks, strides in either place, TensorFlow's padding on one
side, dilation instead of stride, other activations and epsilons, patches and pictures that are not square, no biases, both kinds of positions. Statistics of norms
are random too, so that leaving one out shows.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors==0.8.0
    VENV/bin/python tests/reference/vision_tiny.py
"""
import json
import os
import shutil

import torch
import transformers as t
from safetensors import safe_open
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
LABELS = {"id2label": {0: "cat", 1: "dog", 2: "river stone", 3: "tree", 4: "house", 5: "boat", 6: "N/A"}}
RESNET = dict(embedding_size=12, hidden_sizes=[16, 24, 40], depths=[2, 1, 2])

MODELS = {
    "resnet-bottleneck": (t.ResNetForImageClassification, t.ResNetConfig(**RESNET, layer_type="bottleneck", **LABELS), [(32, 32), (45, 38)]),
    "resnet-early": (t.ResNetForImageClassification, t.ResNetConfig(**RESNET, layer_type="bottleneck", downsample_in_first_stage=True,
                                                                    downsample_in_bottleneck=True, hidden_act="gelu", **LABELS), [(64, 50)]),
    "resnet-basic": (t.ResNetForImageClassification, t.ResNetConfig(**RESNET, layer_type="basic", **LABELS), [(33, 47)]),
    "resnet-base": (t.ResNetModel, t.ResNetConfig(**RESNET, layer_type="basic"), [(32, 40)]),
    "mobilenet": (t.MobileNetV2ForImageClassification, t.MobileNetV2Config(depth_multiplier=0.25, min_depth=4, depth_divisible_by=4, finegrained_output=False,
                                                                           **LABELS), [(32, 32), (47, 65)]),
    "mobilenet-dilated": (t.MobileNetV2ForImageClassification, t.MobileNetV2Config(depth_multiplier=0.2, min_depth=4, depth_divisible_by=4, expand_ratio=3,
        output_stride=8, first_layer_is_expansion=False, finegrained_output=False, tf_padding=False, hidden_act="relu", layer_norm_eps=1e-5, **LABELS), [(48, 33)]),
    "vit": (t.ViTForImageClassification, t.ViTConfig(hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=50, image_size=[24, 32],
                                                     patch_size=8, layer_norm_eps=1e-3, **LABELS), [(32, 24)]),
    "vit-base": (t.ViTModel, t.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=40, image_size=20, patch_size=4,
                                         qkv_bias=False, hidden_act="gelu_pytorch_tanh"), [(20, 20)]),
    "detr": (t.DetrForObjectDetection, t.DetrConfig(backbone_config=t.ResNetConfig(**RESNET, layer_type="bottleneck", out_features=["stage3"]),
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, num_queries=7, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=28, **LABELS), [(64, 48), (33, 97), (16, 16)]),
    "detr-learned": (t.DetrForObjectDetection, t.DetrConfig(backbone_config=t.ResNetConfig(**RESNET, layer_type="basic", out_features=["stage3"]),
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, num_queries=5, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=28, position_embedding_type="learned", activation_function="gelu", **LABELS), [(50, 40)]),
}


def pixels(w, h):
    """[3][h][w]; the same in vision_test.c."""
    y, x, c = torch.meshgrid(torch.arange(h), torch.arange(w), torch.arange(3), indexing="ij")
    return (((x * x * 3 + y * 5 + x * y * 7 + c * 85 + w * 11) % 256).float() / 128 - 1).permute(2, 0, 1)[None]


def randomise(model):
    with torch.no_grad():
        for name, p in list(model.named_parameters()) + list(model.named_buffers()):
            if not p.is_floating_point():
                continue
            if name.endswith("running_var"):
                p.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                p.normal_(0, 0.2)
            elif "norm" in name and name.endswith("weight"):
                p.uniform_(0.6, 1.4)
            elif p.dim() < 2:
                p.normal_(0, 0.1)
            elif "position" in name or "token" in name:
                p.normal_(0, 0.5)
            else:
                fan = p[0].numel()
                p.normal_(0, (1.5 / fan) ** 0.5)


def number(v):
    return float(f"{v:.7g}")


def main():
    out = {}
    shutil.rmtree(os.path.join(HERE, "vision"), ignore_errors=True)
    for i, (name, (cls, config, sizes)) in enumerate(MODELS.items()):
        torch.manual_seed(i + 1)
        model = cls(config).eval()
        randomise(model)
        folder = os.path.join(HERE, "vision", name)
        model.save_pretrained(folder)
        cases = []
        for w, h in sizes:
            with torch.no_grad():
                r = model(pixel_values=pixels(w, h))
            if "Detection" in cls.__name__:
                cases.append({"w": w, "h": h, "out": [[number(v) for v in a] + [number(v) for v in b] for a, b in zip(r.logits[0].tolist(), r.pred_boxes[0].tolist())]})
            elif "Classification" in cls.__name__:
                cases.append({"w": w, "h": h, "out": [[number(v) for v in r.logits[0].tolist()]]})
            else:
                v = r.pooler_output.flatten() if cls is t.ResNetModel else r.last_hidden_state[0]
                rows = [v.tolist()] if v.dim() == 1 else v.tolist()
                cases.append({"w": w, "h": h, "out": [[number(x) for x in row] for row in rows]})
        out[name] = cases
    with open(os.path.join(HERE, "vision-tiny.json"), "w") as f:
        f.write("{\n" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in out.items()) + "\n}\n")


if __name__ == "__main__":
    main()
