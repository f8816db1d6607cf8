"""Constructed scenes: what is seen against the surfaces' implicit equations and other geometry."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mtlbook.book.data import scenes as module
from mtlbook.book.data.scenes import CLASSES, Scenes, Views, draw, render, scene_tasks
from mtlbook.errors import UsageError

GROUND, WALL, SPHERE, BOX = range(len(CLASSES))
NAMES = ("image", "segmentation", "instance", "centres", "depth", "normals")


@pytest.fixture(scope="module")
def drawn() -> Scenes:
    return draw(0, scenes=30, objects=5)


@pytest.fixture(scope="module")
def views(drawn: Scenes) -> Views:
    return render(drawn, size=24)


def points(views: Views) -> Tensor:
    """The points that the pixels show, in the world's frame: (scenes, size, size, 3)."""
    size = views.depth.shape[-1]
    seen = module.rays(size).view(size, size, 3) * views.depth[:, 0, :, :, None]
    return seen @ module.camera_to_world().T + torch.tensor([0, module.CAMERA_HEIGHT, 0]).double()


def in_own_frame(shown: Tensor, centre: Tensor, turn: float) -> np.ndarray:
    """Points in the frame of an object that is turned about the vertical, with NumPy alone."""
    x, y, z = (shown - centre).numpy().T
    return np.stack(
        [np.cos(turn) * x - np.sin(turn) * z, y, np.sin(turn) * x + np.cos(turn) * z], -1
    )


def test_the_camera_is_a_rotation_that_looks_down():
    rotation = module.camera_to_world()
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
    assert float(torch.linalg.det(rotation)) == pytest.approx(1)
    assert float(rotation[1, 2]) == pytest.approx(-np.sin(module.PITCH))


def test_every_point_lies_on_its_surface(drawn: Scenes, views: Views):
    shown = points(views)
    ground, wall = (views.segmentation == kind for kind in (GROUND, WALL))
    assert float(shown[ground][:, 1].abs().max()) < 1e-12
    assert float((shown[wall][:, 2] - module.WALL_DISTANCE).abs().max()) < 1e-12
    met = {SPHERE: 0, BOX: 0}
    for scene in range(len(drawn)):
        for number in range(5):
            mask = views.instance[scene] == number
            if not mask.any():
                continue
            kind = BOX if drawn.is_box[scene, number] else SPHERE
            assert bool((views.segmentation[scene][mask] == kind).all())
            own = in_own_frame(
                shown[scene][mask],
                drawn.centre[scene, number],
                float(drawn.turn[scene, number]),
            )
            relative = own / drawn.half_sides[scene, number].numpy()
            # A sphere has the Euclidean norm 1, a box the largest coordinate 1.
            order = 2 if kind == SPHERE else np.inf
            np.testing.assert_allclose(np.linalg.norm(relative, order, axis=1), 1, rtol=1e-10)
            met[kind] += 1
    assert min(met.values()) > 20


def test_nothing_stands_before_what_is_seen(drawn: Scenes, views: Views):
    """No point of a ray before the one that is seen lies inside an object (or behind a plane)."""
    seen = points(views)
    camera = torch.tensor([0, module.CAMERA_HEIGHT, 0]).double()
    for scene in range(10):
        for share in np.linspace(0.02, 0.999, 60):
            before = (camera + share * (seen[scene] - camera)).view(-1, 3)
            assert float(before[:, 1].min()) > 0
            assert float(before[:, 2].max()) < module.WALL_DISTANCE
            for number in range(5):
                own = in_own_frame(
                    before, drawn.centre[scene, number], float(drawn.turn[scene, number])
                )
                relative = own / drawn.half_sides[scene, number].numpy()
                order = np.inf if drawn.is_box[scene, number] else 2
                assert np.linalg.norm(relative, order, axis=1).min() > 1 - 1e-9


def test_objects_and_planes_are_all_seen(views: Views):
    shares = views.segmentation.flatten().bincount(minlength=4) / views.segmentation.numel()
    assert bool((shares > 0.05).all())


def test_normals_are_unit_and_face_the_camera(views: Views):
    torch.testing.assert_close(views.normals.norm(dim=1), torch.ones(30, 24, 24).double())
    towards = torch.einsum("scij,ijc->sij", views.normals, module.rays(24).view(24, 24, 3))
    assert float(towards.max()) < 1e-9


def test_normals_agree_with_differences_of_neighbouring_points():
    """Across a surface the cross product of two differences of points is normal to it."""
    size = 192
    views = render(draw(1, scenes=3, objects=4), size=size)
    seen = module.rays(size).view(size, size, 3) * views.depth[:, 0, :, :, None]
    right = seen[:, 1:-1, 2:] - seen[:, 1:-1, :-2]
    up = seen[:, :-2, 1:-1] - seen[:, 2:, 1:-1]
    # x right, y up, z forward is left-handed: this order points to the camera.
    estimate = torch.nn.functional.normalize(torch.linalg.cross(up, right), dim=-1)
    normals = views.normals.permute(0, 2, 3, 1)
    inner = normals[:, 1:-1, 1:-1]
    smooth = torch.ones_like(inner[..., 0], dtype=torch.bool)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        ends = (slice(None), slice(rows, rows + size - 2), slice(columns, columns + size - 2))
        smooth &= views.instance[ends] == views.instance[:, 1:-1, 1:-1]
        smooth &= views.segmentation[ends] == views.segmentation[:, 1:-1, 1:-1]
        # Neighbours on the same face of a box; near a sphere's rim differences are too coarse.
        smooth &= (normals[ends] * inner).sum(-1) > 0.97
    assert float(smooth.double().mean()) > 0.8
    assert float((estimate * inner).sum(-1)[smooth].min()) > 0.99
    assert float((estimate * inner).sum(-1)[smooth].mean()) > 0.9999


def one_sphere(*distances: float) -> Scenes:
    """Spheres of radius 0.5 one behind another, at the height of the camera's centre line."""
    count = len(distances)
    centre = torch.tensor(
        [[[0.0, module.CAMERA_HEIGHT - np.tan(module.PITCH) * d, d] for d in distances]]
    ).double()
    return Scenes(
        torch.zeros(1, count, dtype=torch.bool),
        centre,
        torch.full((1, count, 3), 0.5, dtype=torch.float64),
        torch.zeros(1, count, dtype=torch.float64),
        torch.full((1, count + 2, 3), 0.5, dtype=torch.float64),
        torch.ones(1, count + 2, dtype=torch.float64),
        torch.tensor([[0.0, 1.0, 0.0]]).double(),
    )


def test_the_nearer_sphere_hides_the_farther_in_either_order():
    for distances, nearest in (((3.0, 5.0), 0), ((5.0, 3.0), 1)):
        views = render(one_sphere(*distances), size=25)
        assert int(views.instance[0, 12, 12]) == nearest
        # The centre line meets the sphere half a metre before its centre.
        expected = 3.0 / np.cos(module.PITCH) - 0.5
        assert float(views.depth[0, 0, 12, 12]) == pytest.approx(expected)
        assert views.normals[0, :, 12, 12].tolist() == pytest.approx([0, 0, -1])


def test_offsets_lead_to_the_projected_centre():
    views = render(one_sphere(4.0), size=24)
    rows, columns = torch.nonzero(views.instance[0] == 0, as_tuple=True)
    offset = views.centres[0, :, rows, columns]
    # The sphere's centre is on the centre line: at the middle of the image.
    torch.testing.assert_close((columns + 0.5) / 24 + offset[0], torch.full_like(offset[0], 0.5))
    torch.testing.assert_close((rows + 0.5) / 24 + offset[1], torch.full_like(offset[1], 0.5))
    assert bool((views.centres[0, :, views.instance[0] < 0] == 0).all())


def test_light_scales_the_image_and_its_absence_is_black(drawn: Scenes):
    bright, dim, dark = (render(drawn[:3], light=light) for light in (1.0, 0.5, 0.0))
    torch.testing.assert_close(dim.image, bright.image / 2)
    assert not dark.image.any()
    assert float(bright.image.min()) > 0
    assert torch.equal(dark.depth, bright.depth)


def test_a_surface_is_brightest_where_it_faces_the_light():
    shape = one_sphere(3.0)
    # Without texture: sin(0) = 0.
    plain = Scenes(**{**vars(shape), "frequency": torch.zeros_like(shape.frequency)})
    views = render(plain, size=48)
    world = torch.einsum("kc,scij->skij", module.camera_to_world(), views.normals)
    # The light is straight above: the cosine is the normal's height, ambient light a share of 0.35.
    expected = 0.5 * (0.35 + 0.65 * world[:, 1].clamp(min=0))
    torch.testing.assert_close(views.image, expected[:, None].expand(-1, 3, -1, -1))


def test_a_scene_does_not_depend_on_its_batch(drawn: Scenes, monkeypatch: pytest.MonkeyPatch):
    whole = render(drawn)
    alone = render(drawn[7:8])
    monkeypatch.setattr(module, "_CHUNK", 4)
    chunked = render(drawn)
    for name in NAMES:
        torch.testing.assert_close(
            getattr(alone, name), getattr(whole, name)[7:8], atol=1e-12, rtol=0
        )
        torch.testing.assert_close(getattr(chunked, name), getattr(whole, name), atol=1e-12, rtol=0)


def test_fewer_rows_are_the_first_rows_of_more():
    few, many = scene_tasks(3, rows=3, size=8), scene_tasks(3, rows=7, size=8)
    torch.testing.assert_close(few.inputs, many.inputs[:3], atol=1e-12, rtol=0)
    for task in few.tasks:
        torch.testing.assert_close(
            few.targets[task.name], many.targets[task.name][:3], atol=1e-12, rtol=0
        )
    assert not torch.equal(few.inputs, scene_tasks(4, rows=3, size=8).inputs)


def test_noise_is_gaussian_and_only_in_the_image():
    clean, noisy = (scene_tasks(0, rows=40, noise=noise) for noise in (0.0, 0.1))
    error = (noisy.inputs - clean.inputs).flatten()
    assert float(error.std()) == pytest.approx(0.1, rel=0.02)
    assert abs(float(error.mean())) < 0.002
    for task in clean.tasks:
        assert torch.equal(clean.targets[task.name], noisy.targets[task.name])
    assert clean.inputs.dtype == torch.float64


def test_impossible_scenes_are_refused():
    with pytest.raises(UsageError, match="scenes must be at least 1, not 0"):
        draw(0, scenes=0)
    with pytest.raises(UsageError, match=r"light of -1\.0 cannot be made"):
        render(draw(0, scenes=1), light=-1.0)
