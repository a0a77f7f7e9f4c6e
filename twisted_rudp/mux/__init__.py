"""Layers that carry many streams over one session: smux, snappy framing and kcptun's QPP."""
