"""What producer and consumer share: settings, messages, storage, messaging, process. It imports neither of them."""
