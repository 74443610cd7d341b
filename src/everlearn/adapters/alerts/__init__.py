"""Telling people: alerts from the outbox to Discord, Slack, signed webhooks and e-mail.

A step of the loop writes what a person should hear of into the outbox, in its own transaction. Here it is
routed to its receivers and sent, each receiver by a thread of its own: one that hangs holds up neither the
others nor the loop.
"""

from everlearn.adapters.alerts.delivery import Alerting
from everlearn.adapters.alerts.notices import Notice
from everlearn.adapters.alerts.plan import Plan, Receiver, read_plan
from everlearn.adapters.alerts.senders import send

__all__ = ["Alerting", "Notice", "Plan", "Receiver", "read_plan", "send"]
