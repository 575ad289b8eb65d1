"""What producer and consumer share: messages, settings, storage, the hand-off. It imports neither of them."""
