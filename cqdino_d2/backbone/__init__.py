"""From pixels to feature maps of one width."""

from .channel_mapper import ChannelMapper
from .feature_pyramid import SimpleFeaturePyramid
from .small_resnet import SmallResNet
from .timm_backbone import TimmBackbone

__all__ = ["ChannelMapper", "SimpleFeaturePyramid", "SmallResNet", "TimmBackbone"]
