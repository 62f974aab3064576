"""Networks: their records, kinds and drivers, and who is in them."""
