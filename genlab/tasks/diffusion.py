"""Tasks that ask a diffusion model's denoiser at every step."""

from genlab.core.errors import UserError
from genlab.models.contract import Model
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.tasks.contract import Task


def diffusion(model: Model, task: Task) -> GaussianDiffusion:
    """The model itself; a UserError where it is of another family."""
    if not isinstance(model, GaussianDiffusion):
        raise UserError(
            f"task={task.name}: it needs a Gaussian diffusion model, whose denoiser it asks at every step, and "
            f"{type(model).__name__} is none"
        )
    return model
