"""What the packets and boxes of a container say: times, key frames, orientation."""
