"""Cameras as devices of Home Assistant, through an MQTT broker: each source publishes its own camera.

    answers, counts ──▶ states ──▶ outbox ──▶ connection ──▶ broker ──▶ Home Assistant, others
                          └── watched, entities, leftovers: what there is, how it is announced, what is no more

All but `connection` and `publisher` decide purely.
"""
