"""Images: names, documents and layers over containerd; pull, load, import, save, list, remove."""
