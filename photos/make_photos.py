"""Make the photographs of this folder out of scikit-image's: `pip install pillow && python photos/make_photos.py`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from pipeline.models.pull import fetch_member  # noqa: E402 - the repository need not be installed

#: Name here -> (file in scikit-image, longest side in pixels).
PHOTOS = {
    "astronaut": ("astronaut.png", 512),
    "brick": ("brick.png", 320),
    "camera": ("camera.png", 512),
    "cat": ("chelsea.png", 451),
    "coffee": ("coffee.png", 600),
    "galaxies": ("hubble_deep_field.jpg", 480),
    "gravel": ("gravel.png", 320),
    "retina": ("retina.jpg", 480),
    "rocket": ("rocket.jpg", 640),
}


def main() -> None:
    for name, (file, longest) in PHOTOS.items():
        picture = Image.open(io.BytesIO(fetch_member("scikit-image==0.26.0", f"skimage/data/{file}")))
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        if picture.mode not in ("L", "RGB"):
            picture = picture.convert("RGB")
        picture.save(FOLDER / f"{name}.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    main()
