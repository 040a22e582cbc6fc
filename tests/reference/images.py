"""Writes images/*, small pictures in every format that image.c reads, and images.json: what Pillow and the image processors of transformers make of
them, of the decoder corpora in the shared data, and of resizing with every filter.

Hashes are SHA-256 of the RGB bytes. Of shared files that Pillow refuses the entry is null: whether we refuse them too is for the test to say.

    python -m venv VENV && VENV/bin/pip install pillow==12.0.0 numpy torch==2.13.0 transformers==5.24.0
    SV_SHARED_DATA=... VENV/bin/python tests/reference/images.py
"""
import hashlib
import io
import json
import os

import numpy as np
from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.environ["SV_SHARED_DATA"]
OUT = os.path.join(HERE, "images")


def sha(image):
    return hashlib.sha256(np.asarray(image, dtype=np.uint8).tobytes()).hexdigest()


def read(data):
    image = Image.open(io.BytesIO(data))
    return ImageOps.exif_transpose(image).convert("RGB")


def picture(w, h, seed):
    """Something with edges, ramps and noise: each filter and decoder shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([(x * 255 // max(w - 1, 1)), (y * 255 // max(h - 1, 1)), ((x // 3 + y // 5) % 2 * 255)], axis=-1)
    a = a + rng.integers(-30, 30, a.shape)
    return Image.fromarray(a.clip(0, 255).astype(np.uint8), "RGB")


def formula(w, h):
    """The same in image_test.c."""
    y, x, c = np.mgrid[0:h, 0:w, 0:3]
    return Image.fromarray(((x * x * 3 + y * 5 + x * y * 7 + c * 85 + w * 11) % 256).astype(np.uint8), "RGB")


def write(name, image, **kw):
    image.save(os.path.join(OUT, name), **kw)


def make():
    os.makedirs(OUT, exist_ok=True)
    p = picture(23, 14, 1)
    for o in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = o
        write(f"turned-{o}.jpg", p, quality=60, exif=exif.tobytes())
    exif = Image.Exif()
    exif[0x112] = 6
    write("turned-6.png", p, exif=exif)
    write("turned-6.webp", p, exif=exif.tobytes(), quality=50)
    for sub in range(3):
        write(f"sub-{sub}.jpg", p, quality=80, subsampling=sub)
    write("progressive.jpg", p, quality=80, progressive=True)
    write("grey.jpg", p.convert("L"))
    write("cmyk.jpg", p.convert("CMYK"))
    rgba = p.copy()
    rgba.putalpha(Image.fromarray((np.arange(14 * 23).reshape(14, 23) % 256).astype(np.uint8)))
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        i = {"LA": rgba.convert("LA"), "RGBA": rgba}.get(mode)
        if mode == "I;16":
            i = Image.fromarray((np.arange(14 * 23).reshape(14, 23) * 7).astype(np.uint16))
        write(f"mode-{mode.replace(';', '')}.png", i or p.convert(mode))
    write("lossless.webp", rgba, lossless=True, exact=True)
    write("lossy.webp", p, quality=40)
    write("lossy-alpha.webp", rgba, quality=40)
    write("moving.webp", p, save_all=True, append_images=[picture(23, 14, 2)], duration=50)
    write("plain.gif", p)
    write("interlaced.gif", p.quantize(16), interlace=True)
    write("moving.gif", p, save_all=True, append_images=[picture(23, 14, 2)], duration=50)
    write("see-through.gif", p.quantize(8), transparency=3)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        write(f"mode-{mode}.bmp", rgba if mode == "RGBA" else p.convert(mode))


def corpus():
    for top in ("images/decode", "images/jpeg", "images/jpeg-crash", "images/bad", "images/photos"):
        for folder, _, names in sorted(os.walk(os.path.join(SHARED, top))):
            for n in sorted(names):
                if n.rsplit(".", 1)[-1].lower() in ("jpg", "jpeg", "png", "webp", "gif", "bmp", "ico", "tiff"):
                    path = os.path.join(folder, n)
                    yield os.path.relpath(path, SHARED), open(path, "rb").read()


def try_read(data):
    try:
        i = read(data)
        return [i.width, i.height, sha(i)]
    except Exception:
        return None


def resizes():
    out = []
    for w, h in ((64, 48), (31, 77), (1, 9), (200, 3)):
        p = formula(w, h)
        for f in range(6):  # newer ones are in no model
            for tw, th in ((w, h), (w * 2 + 1, h), (w, max(h // 3, 1)), (max(w // 5, 1), h * 2), (17, 23), (1, 1)):
                out.append([w, h, f, tw, th, sha(p.resize((tw, th), Image.Resampling(f)))])
    return out


def preps():
    import transformers as t
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
    from transformers.models.mobilenet_v2.image_processing_pil_mobilenet_v2 import MobileNetV2ImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
    kinds = {
        "vit": (ViTImageProcessorPil, {"size": {"height": 32, "width": 40}}),
        "vit-bicubic": (ViTImageProcessorPil, {"size": {"height": 32, "width": 32}, "resample": 3}),
        "convnext": (ConvNextImageProcessorPil, {"size": {"shortest_edge": 28}, "crop_pct": 0.875}),
        "convnext-large": (ConvNextImageProcessorPil, {"size": {"shortest_edge": 384}}),
        "mobilenet": (MobileNetV2ImageProcessorPil, {"size": {"shortest_edge": 36}, "crop_size": {"height": 30, "width": 28}}),
        "clip": (CLIPImageProcessorPil, {"size": {"shortest_edge": 30}, "crop_size": {"height": 30, "width": 30}}),
        "crop-larger": (MobileNetV2ImageProcessorPil, {"size": {"shortest_edge": 20}, "crop_size": {"height": 33, "width": 52}}),
        "detr": (DetrImageProcessorPil, {"size": {"shortest_edge": 60, "longest_edge": 100}}),
    }
    out = []
    for name, (cls, args) in kinds.items():
        proc = cls(**args)
        config = json.loads(proc.to_json_string())
        cases = []
        for w, h in ((64, 48), (48, 65), (33, 33), (101, 40), (40, 113), (200, 61)):
            p = formula(w, h)
            kw = {"return_tensors": "np", "do_rescale": False, "do_normalize": False}
            if name == "detr":
                kw["do_pad"] = False
            raw = np.asarray(proc(p, **kw)["pixel_values"][0]).transpose(1, 2, 0)
            full = np.asarray(proc(p, **{k: v for k, v in kw.items() if not k.startswith("do_r") and not k.startswith("do_n")})["pixel_values"][0])
            full = full.transpose(1, 2, 0).reshape(-1)
            cases.append({"w": w, "h": h, "to": [raw.shape[1], raw.shape[0]], "sha": sha(raw.round()), "first": [float(v) for v in full[:6]],
                          "sum": float(full.astype(np.float64).sum())})
        out.append({"name": name, "config": config, "cases": cases})
    return out


if __name__ == "__main__":
    make()
    files = {n: try_read(open(os.path.join(OUT, n), "rb").read()) for n in sorted(os.listdir(OUT))}
    goldens = {"files": files, "shared": {n: try_read(d) for n, d in corpus()}, "resize": resizes(), "prep": preps()}
    with open(os.path.join(HERE, "images.json"), "w") as f:
        f.write("{\n" + ",\n".join(f'"{k}": ' + (json.dumps(v) if not isinstance(v, dict) else "{\n" + ",\n".join(f" {json.dumps(a)}: {json.dumps(b)}" for a, b in v.items()) + "}")
                                   for k, v in goldens.items()) + "\n}\n")
