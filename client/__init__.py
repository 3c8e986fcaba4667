"""The typed asyncio client of Minutebook: REST, socket, and a session that misses nothing."""

from client.caller import AppKey
from client.clock import Clock, SystemClock
from client.deliveries import ConversationReset, LogChanged
from client.frames import Ack, Behind, Event, EventsPage, Inbox, Presence, Receipt, Reconnect, Typing, Welcome
from client.problem import ConnectionLostError, FieldProblem, ProblemError, SessionEndedError
from client.records import Account, Change, Message, Page, Posted, SessionTokens
from client.rest import RestClient
from client.session import ChatSession
from client.socket import SocketClient

__all__ = [
    "Account",
    "Ack",
    "AppKey",
    "Behind",
    "Change",
    "ChatSession",
    "Clock",
    "ConnectionLostError",
    "ConversationReset",
    "Event",
    "EventsPage",
    "FieldProblem",
    "Inbox",
    "LogChanged",
    "Message",
    "Page",
    "Posted",
    "Presence",
    "ProblemError",
    "Receipt",
    "Reconnect",
    "RestClient",
    "SessionEndedError",
    "SessionTokens",
    "SocketClient",
    "SystemClock",
    "Typing",
    "Welcome",
]
