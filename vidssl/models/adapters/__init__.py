"""Networks of others as encoders: timm, torchvision, transformers, torch.hub."""
