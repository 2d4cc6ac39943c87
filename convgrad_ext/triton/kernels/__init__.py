"""The loops in Triton, for a GPU or, with ``TRITON_INTERPRET=1``, for Triton's interpreter."""
