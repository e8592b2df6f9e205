"""From pixels to feature maps of one width."""

from .. import needs_detectron2  # noqa: F401  says how to get Detectron2
from .channel_mapper import ChannelMapper
from .clip_tower import ClipResNet, clip_resnet, random_clip_resnet
from .feature_pyramid import SimpleFeaturePyramid
from .picture_tower import PictureTower, trained_picture_tower
from .region_teacher import RegionTeacher
from .small_resnet import SmallResNet
from .timm_backbone import TimmBackbone

__all__ = [
    "ChannelMapper",
    "ClipResNet",
    "PictureTower",
    "RegionTeacher",
    "SimpleFeaturePyramid",
    "SmallResNet",
    "TimmBackbone",
    "clip_resnet",
    "random_clip_resnet",
    "trained_picture_tower",
]
