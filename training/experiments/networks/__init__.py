"""What else is asked of networks: seams, robustness, feature maps."""
