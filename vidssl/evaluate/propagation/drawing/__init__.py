"""Pictures of what was carried: masks, joints, boxes and points over frames."""
