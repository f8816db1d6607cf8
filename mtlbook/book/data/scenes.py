r"""Constructed scenes: images with their segmentation, instance centres, depth and normals, exact.

Spheres and boxes stand on a ground before a wall. The camera is a pinhole at the height $h$ above
the ground that looks forward and down by the pitch $\theta$; its frame has $x$ to the right, $y$
up and $z$ forward. The pixel in row $i$ and column $j$ of $n \times n$ sees along

$$d = \Big(\tfrac{2j + 1 - n}{n f},\ \tfrac{n - 1 - 2i}{n f},\ 1\Big), \qquad
  p(t) = o + t\, R d, \qquad o = (0, h, 0),$$

where $f$ is the focal length in halves of the image's width and $R$ turns the camera's frame into
the world's. Since $d_z = 1$, the $t$ at which a ray meets a surface *is* the depth, the distance
along the camera's axis. With $v = R d$ it has a closed form for every surface:

* ground $y = 0$: $t = -h / v_y$; wall $z = w$: $t = w / v_z$;
* sphere with centre $c$ and radius $r$: the smaller root of
  $\lVert o + t v - c \rVert^2 = r^2$;
* box with centre $c$ and half sides $s$, turned about the vertical: in its own frame the ray is
  between the two faces of axis $k$ for $t$ from
  $\min_\pm (\pm s_k - o_k) / v_k$ to $\max_\pm (\pm s_k - o_k) / v_k$ (a slab); it enters the box
  at the largest of the three lower ends if that lies before the smallest upper end.

A pixel shows the surface with the smallest positive $t$. Its colour is Lambert's: with the
normal $m$, the direction $l$ to the light, the light's strength $L$ and the ambient share $a$,

$$\text{colour} = L\, \rho(p)\, \big(a + (1 - a) \max(0, m \cdot l)\big) + \sigma \varepsilon,
  \qquad \rho(p) = \rho\, \big(1 + \tfrac{1}{2} \sin(k p_x) \sin(k p_y') \sin(k p_z)\big),$$

a texture in space ($p_y' = p_y + 1$, so that the ground has one, too). Surfaces cast no shadows.
"""

from dataclasses import dataclass, fields
from math import cos, pi, sin

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import check_counts, with_noise
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

CLASSES = ("ground", "wall", "sphere", "box")

# The camera, in metres and radians; the focal length is in halves of the image's width.
CAMERA_HEIGHT = 1.5
PITCH = 0.25
FOCAL_LENGTH = 1.4
WALL_DISTANCE = 8.0

_AMBIENT = 0.35
_TEXTURE_CONTRAST = 0.5
# Scenes that are rendered at once: bounds the memory, not the result.
_CHUNK = 128
# Numbers from which one object, and what surrounds all of them, are made.
_PER_OBJECT, _PER_SCENE = 12, 10


@dataclass(frozen=True, eq=False)
class Scenes:
    """What stands in each scene, in metres of the world's frame (x right, y up, z forward).

    Attributes:
        is_box: whether an object is a box, otherwise a sphere.
        centre: of each object.
        half_sides: of a box; a sphere's three are its radius.
        turn: of a box about the vertical, in radians.
        albedo: colour of the ground, the wall and each object, from 0 to 1.
        frequency: of the texture of the same surfaces, in radians per metre.
        light_direction: unit vector to the light.
    """

    is_box: Bool[Tensor, "scenes objects"]
    centre: Float[Tensor, "scenes objects 3"]
    half_sides: Float[Tensor, "scenes objects 3"]
    turn: Float[Tensor, "scenes objects"]
    albedo: Float[Tensor, "scenes surfaces 3"]
    frequency: Float[Tensor, "scenes surfaces"]
    light_direction: Float[Tensor, "scenes 3"]

    def __len__(self) -> int:
        return len(self.is_box)

    def __getitem__(self, rows: slice) -> "Scenes":
        return Scenes(*(getattr(self, field.name)[rows] for field in fields(self)))

    def to(self, device: str | torch.device) -> "Scenes":
        """The same scenes on a device, on which they are rendered."""
        return Scenes(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Views:
    """What the camera sees of each scene.

    Attributes:
        image: colours; 0 is black.
        segmentation: numbers of `CLASSES`.
        instance: the number of the object, from 0, or -1 on the ground and the wall.
        centres: from each pixel of an object to the projection of the object's centre, right and
            down, in widths of the image; 0 on the ground and the wall.
        depth: along the camera's axis, in metres.
        normals: unit vectors in the camera's frame that face the camera.
    """

    image: Float[Tensor, "scenes 3 size size"]
    segmentation: Int[Tensor, "scenes size size"]
    instance: Int[Tensor, "scenes size size"]
    centres: Float[Tensor, "scenes 2 size size"]
    depth: Float[Tensor, "scenes 1 size size"]
    normals: Float[Tensor, "scenes 3 size size"]


def draw(seed: int, *, scenes: int, objects: int = 4) -> Scenes:
    """Random scenes, float64; the first ones are the same for any number of scenes.

    Each object is a sphere or a box with equal probability and stands on the ground. Objects may
    hide one another, and may reach into one another.
    """
    check_counts(scenes=scenes, objects=objects)
    width = objects * _PER_OBJECT + _PER_SCENE
    numbers = torch.rand(
        scenes, width, generator=generator(seed, "scenes", objects), dtype=torch.float64
    )
    own = numbers[:, :-_PER_SCENE].view(scenes, objects, _PER_OBJECT)
    around = numbers[:, -_PER_SCENE:]
    is_box = own[..., 0] < 0.5
    radius = 0.5 + 0.4 * own[..., 1:2]
    half_sides = torch.where(is_box[..., None], 0.4 + 0.5 * own[..., 1:4], radius)
    distance = 3 + 3.5 * own[..., 4]
    # Within the field of view, which widens with the distance.
    sideways = (2 * own[..., 5] - 1) * distance * 0.5
    centre = torch.stack([sideways, half_sides[..., 1], distance], dim=-1)
    colours = torch.cat([around[:, :6].view(scenes, 2, 3), own[..., 6:9]], dim=1)
    frequency = torch.cat([around[:, 6:8], own[..., 9]], dim=1)
    azimuth, height = 2 * pi * around[:, 8], 0.4 + 0.9 * around[:, 9]
    light = torch.stack(
        [height.cos() * azimuth.cos(), height.sin(), height.cos() * azimuth.sin()], dim=-1
    )
    return Scenes(
        is_box,
        centre,
        half_sides,
        pi / 2 * own[..., 10],
        0.2 + 0.6 * colours,
        1 + 4 * frequency,
        light,
    )


def render(scenes: Scenes, *, size: int = 24, light: float = 1.0) -> Views:
    """The views of the scenes without noise, of `size` × `size` pixels.

    Example:
        >>> views = render(draw(0, scenes=2, objects=3), size=16)
        >>> tuple(views.image.shape), tuple(views.depth.shape)
        ((2, 3, 16, 16), (2, 1, 16, 16))
    """
    if size < 1 or light < 0:
        raise UsageError(f"Images of {size} pixels under a light of {light} cannot be made.")
    chunks = [
        _render(scenes[start : start + _CHUNK], size, light)
        for start in range(0, len(scenes), _CHUNK)
    ]
    return Views(
        *(torch.cat([getattr(chunk, field.name) for chunk in chunks]) for field in fields(Views))
    )


def scene_tasks(
    seed: int,
    *,
    rows: int,
    size: int = 24,
    objects: int = 4,
    noise: float = 0.05,
    light: float = 1.0,
    device: str | torch.device = "cpu",
) -> MultiTaskData:
    """Noisy images of random scenes, with four dense tasks on each.

    Arguments:
        seed: of the scenes and of the noise.
        rows: images; the first ones are the same for any number.
        size: pixels a side.
        objects: in each scene.
        noise: standard deviation of the Gaussian noise of each colour of each pixel.
        light: strength of the light.
        device: on which the scenes are rendered; the data lies on the CPU.

    Returns:
        Inputs of three channels, every row labelled for `segmentation` (`CLASSES`), `centres`,
        `depth` and `normals` as in `Views`.
    """
    views = render(draw(seed, scenes=rows, objects=objects).to(device), size=size, light=light)
    image = with_noise(views.image.cpu(), noise, generator(seed, "scenes", "noise"))
    return MultiTaskData.multi_label(
        [
            Task.dense_classification("segmentation", classes=len(CLASSES)),
            Task.dense_regression("centres", outputs=2),
            Task.dense_regression("depth"),
            Task.dense_regression("normals", outputs=3),
        ],
        image,
        {
            name: getattr(views, name).cpu()
            for name in ("segmentation", "centres", "depth", "normals")
        },
    )


def rays(size: int) -> Float[Tensor, "pixels 3"]:
    """The direction $d$ of each pixel in the camera's frame, row by row."""
    step = (2 * torch.arange(size, dtype=torch.float64) + 1 - size) / (size * FOCAL_LENGTH)
    down, right = torch.meshgrid(step, step, indexing="ij")
    return torch.stack([right, -down, torch.ones_like(right)], dim=-1).view(-1, 3)


def camera_to_world() -> Float[Tensor, "3 3"]:
    """The rotation $R$ that turns a vector of the camera's frame into the world's."""
    return torch.tensor(
        [[1, 0, 0], [0, cos(PITCH), -sin(PITCH)], [0, sin(PITCH), cos(PITCH)]], dtype=torch.float64
    )


def plane_depth(height: float, towards: Float[Tensor, "*rays"]) -> Float[Tensor, "*rays"]:
    """Where rays meet a plane that lies `height` before their origin; infinite where they don't.

    Arguments:
        height: the distance of the origin from the plane.
        towards: how fast each ray approaches the plane.
    """
    return torch.where(towards > 0, height / towards, torch.inf)


def sphere_depth(
    origin: Float[Tensor, "*batch 1 3"],
    direction: Float[Tensor, "pixels 3"],
    radius: Float[Tensor, "*batch 1"],
) -> Float[Tensor, "*batch pixels"]:
    """Where rays from outside enter a sphere around 0; infinite where they miss it."""
    square = direction.square().sum(-1)
    half = (origin * direction).sum(-1)
    discriminant = half.square() - square * (origin.square().sum(-1) - radius.square())
    depth = (-half - discriminant.clamp(min=0).sqrt()) / square
    return torch.where((discriminant >= 0) & (depth > 0), depth, torch.inf)


def box_depth(
    origin: Float[Tensor, "*batch 1 3"],
    direction: Float[Tensor, "*batch pixels 3"],
    half_sides: Float[Tensor, "*batch 1 3"],
) -> tuple[Float[Tensor, "*batch pixels"], Int[Tensor, "*batch pixels"]]:
    """Where rays from outside enter a box around 0 (infinite: nowhere), and through which axis."""
    # A ray that is parallel to a face never meets it: division by 0 gives the infinities needed.
    ends = torch.stack([(side * half_sides - origin) / direction for side in (-1, 1)])
    entry, axis = ends.amin(0).max(-1)
    leave = ends.amax(0).amin(-1)
    return torch.where((entry < leave) & (entry > 0), entry, torch.inf), axis


def _render(scenes: Scenes, size: int, light: float) -> Views:
    device = scenes.centre.device
    rotation = camera_to_world().to(device)
    camera_rays = rays(size).to(device)
    v = camera_rays @ rotation.T
    o = torch.tensor([0, CAMERA_HEIGHT, 0], dtype=torch.float64, device=device)
    count = len(scenes)

    # Objects in frames of their own: (scenes, objects, pixels, 3).
    origin = (o - scenes.centre)[:, :, None]
    to_world = _about_vertical(scenes.turn)
    box_rays = v @ to_world
    box, axis = box_depth(origin @ to_world, box_rays, scenes.half_sides[:, :, None])
    sphere = sphere_depth(origin, v, scenes.half_sides[..., :1])
    solid = torch.where(scenes.is_box[..., None], box, sphere)
    planes = torch.stack(
        [plane_depth(CAMERA_HEIGHT, -v[:, 1]), plane_depth(WALL_DISTANCE, v[:, 2])]
    )
    depth, surface = torch.cat([planes.expand(count, -1, -1), solid], dim=1).min(1)

    points = o + depth[..., None] * v
    every_sphere = (origin + solid.nan_to_num(posinf=0)[..., None] * v) / scenes.half_sides[
        :, :, None, :1
    ]
    entered = torch.nn.functional.one_hot(axis, 3).to(v.dtype)
    every_box = -(entered * box_rays.sign()) @ to_world.mT
    solid_normals = torch.where(scenes.is_box[..., None, None], every_box, every_sphere)
    plane_normals = v.new_tensor([[0, 1, 0], [0, 0, -1]])[None, :, None]
    normals = _chosen(
        torch.cat([plane_normals.expand(count, -1, len(v), -1), solid_normals], dim=1), surface
    )

    rows = torch.arange(count, device=device)[:, None]
    k = scenes.frequency[rows, surface][..., None]
    wave = torch.sin(k * (points + v.new_tensor([0, 1, 0]))).prod(-1, keepdim=True)
    albedo = scenes.albedo[rows, surface] * (1 + _TEXTURE_CONTRAST * wave)
    lambert = (normals * scenes.light_direction[:, None]).sum(-1, keepdim=True).clamp(min=0)
    image = light * albedo * (_AMBIENT + (1 - _AMBIENT) * lambert)

    instance = torch.where(surface < 2, -1, surface - 2)
    kind = torch.where(scenes.is_box, 3, 2)
    segmentation = torch.where(surface < 2, surface, kind[rows, instance.clamp(min=0)])

    seen = (scenes.centre - o) @ rotation
    projected = seen[..., :2] / seen[..., 2:]
    offset = projected[rows, instance.clamp(min=0)] - camera_rays[:, :2]
    # From the camera's x and y (up) to widths of the image, right and down.
    centres = offset * FOCAL_LENGTH / 2 * v.new_tensor([1, -1])
    centres = torch.where(instance[..., None] >= 0, centres, 0)

    def picture(values: Tensor) -> Tensor:
        return values.mT.reshape(count, -1, size, size)

    return Views(
        picture(image),
        segmentation.view(count, size, size),
        instance.view(count, size, size),
        picture(centres),
        depth.view(count, 1, size, size),
        picture(normals @ rotation),
    )


def _about_vertical(turn: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation about the vertical from an object's frame into the world's."""
    c, s, zero = turn.cos(), turn.sin(), torch.zeros_like(turn)
    rows = [[c, zero, s], [zero, zero + 1, zero], [-s, zero, c]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _chosen(
    values: Float[Tensor, "scenes surfaces pixels 3"], surface: Int[Tensor, "scenes pixels"]
) -> Float[Tensor, "scenes pixels 3"]:
    """The values of each pixel's own surface."""
    return values.gather(1, surface[:, None, :, None].expand(-1, -1, -1, 3))[:, 0]
