"""Residual networks (He et al. 2016): ResNet-18 for small images in any width, and torchvision's ResNet-50.

ResNet-18 is that of the paper's SplitCIFAR100 (section 4.1; Lopez-Paz & Ranzato 2017): a convolution of 3 x 3 without pooling, four stages
of two blocks with W, 2 W, 4 W and 8 W channels, the mean over the image, and a linear layer. Nothing has a bias, and batch normalisation
has no learned scale.
"""

from torch import Tensor, nn
from torch.nn.functional import relu

from clbench._torchvision import import_torchvision
from clbench.errors import UserError
from clbench.networks.inspection import check_size


def normalisation(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with running statistics and no parameters."""
    return nn.BatchNorm2d(channels, affine=False)


def convolution(fan_in: int, channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias. With stride 1 it keeps the size of the image."""
    return nn.Conv2d(fan_in, channels, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution of 1 x 1 if the shape changes."""

    def __init__(self, fan_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(fan_in, channels, 3, stride), normalisation(channels)
        self.conv2, self.norm2 = convolution(channels, channels, 3), normalisation(channels)
        same_shape = fan_in == channels and stride == 1
        self.shortcut = (
            nn.Identity() if same_shape else nn.Sequential(convolution(fan_in, channels, 1, stride), normalisation(channels))
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, fan_in, height, width] -> [n, channels, height / stride, width / stride]."""
        hidden = relu(self.norm1(self.conv1(inputs)))
        return relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


class ResNet18(nn.Module):
    """From images [n, channels, height, width] to [n, outputs]; ``width`` is the number of channels of the first stage."""

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.norm = convolution(channels, width, 3), normalisation(width)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        blocks = []
        for stage in range(4):
            blocks += [
                Block(widths[stage], widths[stage + 1], 1 if stage == 0 else 2),
                Block(widths[stage + 1], widths[stage + 1], 1),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(8 * width, outputs, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """The logits of a batch."""
        hidden = self.blocks(relu(self.norm(self.conv(images))))
        return self.head(hidden.mean((2, 3)))


def resnet_18(input_shape: tuple[int, ...], width: int, outputs: int) -> nn.Module:
    """ResNet-18 for images [channels, height, width]; a ``UserError`` for other inputs."""
    if len(input_shape) != 3:
        raise UserError(f"ResNet-18 is for images, not for inputs of shape {list(input_shape)}: choose another network.")
    check_size(2700 * width**2 + 8 * width * outputs)  # about
    return ResNet18(input_shape[0], width, outputs)


def resnet_50(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """torchvision's ResNet-50; a ``UserError`` for inputs other than images in three colours."""
    if len(input_shape) != 3 or input_shape[0] != 3:
        shape = list(input_shape)
        raise UserError(f"ResNet-50 is for images in three colours, not for inputs of shape {shape}: choose another network.")
    check_size(25_000_000 + 2048 * outputs)  # about
    return import_torchvision().models.resnet50(num_classes=outputs)
