"""A phone that is spoken to: two threads between its USB pipes and the sockets of its streams.

Theory of operation. USB transfers block, so each direction has a thread of its
own; what they share, the machine (`adb_host`) and the streams, is under one
lock, which nobody holds while a transfer runs. The *reader* opens the pipes,
greets, and from then on waits for the phone's transfers. What comes for a
stream goes into its socket; what the socket does not take waits in the stream,
and the phone's window with it, so neither the thread nor another stream waits.
The *writer* sleeps in `epoll` until a socket has data that the phone will take,
or has room for what waits, or the reader has something to say to the phone; it
alone sends, so a message is never torn by another.

A phone that does not answer is in the middle of a message that a killed program
had begun. It is greeted twice; then its port is reset, and it is found again.

A packet that was begun is ended before the pipes are given back: `close` lets
both threads come to the end of what they do. A thread at a read notices within
POLL seconds.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

from reach.adb_host import (
    AdbHost,
    AskedAtPhone,
    Ended,
    Event,
    Online,
    Opened,
    Received,
    Signer,
    State,
    Writable,
)
from reach.adb_wire import Transfers, Violation
from reach.bus import Pipes
from reach.cable import CableError, PhoneState

POLL = 0.5
"""Seconds that a read waits: for as long a session that is closed keeps its phone."""
WRITE_SECONDS = 5.0
"""For a phone to take one transfer."""
FOUND_AGAIN_SECONDS = 5.0
"""For a phone to be back after a reset of its port."""
FOUND_AGAIN_PAUSE = 0.1
SOCKET_BUFFER = 128 * 1024
"""Bytes that wait in a stream's socket, each way; a short queue, as on every link."""

_GONE = "the phone was unplugged"
_SILENT = "the phone does not answer; plug it in anew"


class _Stream:
    """One stream: our end of its socket, and what that has not taken yet."""

    __slots__ = ("ended", "mask", "opened", "ours", "pending", "port", "size", "theirs", "waiter")

    def __init__(self, port: int, waiter: Callable[[OSError | None], None]) -> None:
        self.port = port
        self.waiter = waiter
        """Called once, on the loop: the stream is open, or why not."""
        self.ours, self.theirs = socket.socketpair()
        for end in (self.ours, self.theirs):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        self.opened = False
        self.ended = False
        """The phone has closed it: what waits is still delivered."""
        self.mask = 0
        """What `epoll` looks for."""
        self.pending: collections.deque[memoryview] = collections.deque()
        self.size = 0
        """Bytes in `pending`; the window bounds them."""


class AdbSession:
    """Speaks to one phone until `close`, or until the phone is gone."""

    def __init__(
        self,
        open_pipes: Callable[[], Pipes],
        signer: Callable[[], Signer],
        changed: Callable[[], None],
    ) -> None:
        """Starts at once. `open_pipes` and `signer` may block; they raise CableError and OSError.
        `changed` is called on the loop when the state has changed or the last stream has gone."""
        self.state = PhoneState.READY
        self.over = False
        self.error: CableError | None = None
        """Why it is over, if it was not closed."""
        self._counters: Counter[str] = Counter()
        """Of the session and its machines; changed under the lock."""
        self._open_pipes = open_pipes
        self._signer = signer
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._host: AdbHost | None = None
        self._streams: dict[int, _Stream] = {}
        """By the machine's number."""
        self._waiting: list[_Stream] = []
        """Those that the machine was not yet told of."""
        self._closing = False
        self._failure: CableError | None = None
        self._epoll = select.epoll()
        self._by_fd: dict[int, int] = {}
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="usb-read", daemon=True)
        self._thread.start()

    # --- on the loop -----------------------------------------------------------------------

    @property
    def streams(self) -> int:
        """How many there are, open or asked for."""
        with self._lock:
            return len(self._streams) + len(self._waiting)

    def counted(self) -> Counter[str]:
        """What was counted so far."""
        with self._lock:
            return self._counters.copy()

    @property
    def closing(self) -> bool:
        """Whether it was told to end, and opens no stream any more."""
        return self._closing

    async def open_stream(self, port: int) -> socket.socket:
        """See `Cable.open_stream`. Waits for the phone's person, too."""
        answered: asyncio.Future[None] = self._loop.create_future()

        def answer(error: OSError | None) -> None:
            if answered.done():
                return
            if error is None:
                answered.set_result(None)
            else:
                answered.set_exception(error)

        stream = _Stream(port, answer)
        with self._lock:
            if self.over or self._closing:
                stream.ours.close()
                stream.theirs.close()
                raise self.error or CableError(errno.ENODEV, _GONE, "phone_absent")
            self._waiting.append(stream)
        self._wake()
        try:
            await answered
        except BaseException:
            stream.theirs.close()
            with self._lock:
                self._give_up(stream)
            self._wake()
            raise
        return stream.theirs

    def close(self) -> None:
        """End; `wait_closed` waits for it."""
        with self._lock:
            self._closing = True
        self._wake()

    async def wait_closed(self) -> None:
        """Until the phone is given back: at most POLL seconds and a transfer."""
        self.close()
        await asyncio.to_thread(self._thread.join)

    # --- both threads ----------------------------------------------------------------------

    def _wake(self) -> None:
        """Have the writer look; not under the lock."""
        with self._lock:
            if not self.over:
                os.eventfd_write(self._wake_fd, 1)

    def _tell(self, call: Callable[[], None]) -> None:
        # The loop may have ended before a thread did.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _fail(self, error: CableError) -> None:
        with self._lock:
            if self._failure is None:
                self._failure = error

    def _give_up(self, stream: _Stream) -> None:
        """A stream that nobody waits for any more; under the lock."""
        if stream in self._waiting:
            self._waiting.remove(stream)
            stream.ours.close()
            return
        for number, each in self._streams.items():
            if each is stream:
                if self._host is not None:
                    self._host.close(number)
                self._forget(number)
                return

    def _forget(self, number: int) -> None:
        """Under the lock."""
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        self._watch(stream, number, 0)
        stream.ours.close()
        if not self._streams and not self._waiting:
            self._tell(self._changed)

    def _watch(self, stream: _Stream, number: int, mask: int) -> None:
        """Have `epoll` look for `mask`; under the lock."""
        if mask == stream.mask:
            return
        fd = stream.ours.fileno()
        if not stream.mask:
            self._by_fd[fd] = number
            self._epoll.register(fd, mask)
        elif mask:
            self._epoll.modify(fd, mask)
        else:
            # Not looked for at all: a hang-up would be told again and again.
            self._epoll.unregister(fd)
            del self._by_fd[fd]
        stream.mask = mask

    def _follow(self, stream: _Stream, number: int) -> None:
        """Look for what can happen to a stream now; under the lock."""
        host = self._host
        if host is None or not stream.opened:
            return
        mask = select.EPOLLOUT if stream.size else 0
        if not stream.ended and host.room(number):
            mask |= select.EPOLLIN
        self._watch(stream, number, mask)

    def _flush(self, stream: _Stream, number: int) -> None:
        """Into the socket with what waits for it; under the lock."""
        taken = 0
        try:
            while stream.pending:
                piece = stream.pending[0]
                sent = stream.ours.send(piece)
                taken += sent
                if sent < len(piece):
                    stream.pending[0] = piece[sent:]
                    break
                stream.pending.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up(number)
            return
        stream.size -= taken
        if taken and self._host is not None:
            self._host.consumed(number, taken)
        if stream.ended and not stream.size:
            self._forget(number)
            return
        self._follow(stream, number)

    def _hang_up(self, number: int) -> None:
        """Whoever used the stream has closed it; under the lock."""
        if self._host is not None:
            self._host.close(number)
        self._forget(number)

    # --- the reader ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve_until_over()
        except CableError as error:
            self._fail(error)
        except Violation as violation:
            text = f"the phone breaks adb's protocol: {violation}"
            self._fail(CableError(errno.EPROTO, text, "phone_garbled"))
        except OSError as error:
            self._fail(_spoken(error))
        finally:
            self._end()

    def _serve_until_over(self) -> None:
        try:
            signer = self._signer()
        except OSError as error:
            raise CableError(error.errno or errno.EIO, str(error), "usb_key") from error
        pipes = self._open_pipes()
        for last in (False, True):
            try:
                if self._serve(pipes, signer):
                    return
                if last:
                    raise CableError(errno.ETIMEDOUT, _SILENT)
                with self._lock:
                    self._counters["port__reset"] += 1
                pipes.reset()
            finally:
                pipes.close()
            pipes = self._find_again()

    def _find_again(self) -> Pipes:
        until = time.monotonic() + FOUND_AGAIN_SECONDS
        while True:
            try:
                return self._open_pipes()
            except CableError:
                if time.monotonic() > until or self._closing:
                    raise
            time.sleep(FOUND_AGAIN_PAUSE)

    def _serve(self, pipes: Pipes, signer: Signer) -> bool:
        """One session; False when the phone has never answered."""
        host = AdbHost(signer, pipes.packet_size, self._counters)
        host.start(time.monotonic())
        writer: threading.Thread | None = None
        try:
            while not self._closing and self._failure is None:
                if writer is None:
                    while (transfers := host.outgoing()) is not None:
                        _write(pipes, transfers)
                    if host.state is State.ONLINE:
                        writer = self._start_writer(pipes, host)
                timer = host.get_timer()
                wait = POLL if timer is None else min(POLL, max(0.01, timer - time.monotonic()))
                try:
                    transfer = pipes.read(host.want, wait)
                except TimeoutError:
                    transfer = None
                now = time.monotonic()
                with self._lock:
                    if transfer is None:
                        host.handle_timer(now)
                    else:
                        for event in host.receive(transfer, now):
                            self._take(event, host)
                    due = host.due
                if host.state is State.SILENT:
                    return False
                if due and writer is not None:
                    self._wake()
            return True
        finally:
            with self._lock:
                self._host = None
            self._wake()
            if writer is not None:
                writer.join()

    def _start_writer(self, pipes: Pipes, host: AdbHost) -> threading.Thread:
        with self._lock:
            self._host = host
        writer = threading.Thread(
            target=self._write_all, args=(pipes, host), name="usb-write", daemon=True
        )
        writer.start()
        return writer

    def _take(self, event: Event, host: AdbHost) -> None:
        """News of the machine; under the lock."""
        match event:
            case AskedAtPhone():
                self._set_state(PhoneState.NOT_ALLOWED)
            case Online():
                self._set_state(PhoneState.READY)
            case Opened(number):
                stream = self._streams[number]
                stream.opened = True
                self._answer(stream, None)
                self._follow(stream, number)
            case Writable(number):
                self._follow(self._streams[number], number)
            case Received(number, data):
                self._deliver(number, data, host)
            case Ended(number, refused):
                stream = self._streams[number]
                if refused:
                    error = CableError(
                        errno.ECONNREFUSED, "nobody listens there on the phone", "phone_closed"
                    )
                    self._answer(stream, error)
                stream.ended = True
                if refused or not stream.size:
                    self._forget(number)
                else:
                    self._follow(stream, number)

    def _deliver(self, number: int, data: bytes | bytearray | memoryview, host: AdbHost) -> None:
        """Into the stream's socket; what that does not take waits, and its window with it."""
        stream = self._streams[number]
        view = memoryview(data)
        if not stream.size:
            try:
                sent = stream.ours.send(view)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._hang_up(number)
                return
            host.consumed(number, sent)
            view = view[sent:]
        if view:
            stream.pending.append(memoryview(bytes(view)))
            stream.size += len(view)
        self._follow(stream, number)

    def _answer(self, stream: _Stream, error: OSError | None) -> None:
        waiter = stream.waiter
        self._tell(lambda: waiter(error))

    def _set_state(self, state: PhoneState) -> None:
        if self.state is not state:
            self.state = state
            self._tell(self._changed)

    def _end(self) -> None:
        """Both threads have come to their end: nobody is kept waiting."""
        with self._lock:
            self.over, self.error = True, self._failure
            error = self.error or CableError(errno.ECONNABORTED, "the cable is not used any more")
            streams = [*self._streams.values(), *self._waiting]
            self._streams.clear()
            self._waiting.clear()
            for stream in streams:
                if not stream.opened:
                    self._answer(stream, error)
                stream.ours.close()
            self._epoll.close()
            os.close(self._wake_fd)
        self._tell(self._changed)

    # --- the writer ------------------------------------------------------------------------

    def _write_all(self, pipes: Pipes, host: AdbHost) -> None:
        """Send what is due until the session is over."""
        try:
            while True:
                with self._lock:
                    over = self._host is not host or self._failure is not None
                    closing = self._closing
                    if not over:
                        self._open_waiting(host)
                    if closing:
                        for number in list(self._streams):
                            self._hang_up(number)
                    transfers = None if over else host.outgoing()
                if over:
                    return
                if transfers is not None:
                    _write(pipes, transfers)
                elif closing:
                    return
                else:
                    self._write_data(pipes, host, self._epoll.poll())
        except OSError as error:
            self._fail(_spoken(error))

    def _open_waiting(self, host: AdbHost) -> None:
        """Under the lock."""
        waiting, self._waiting = self._waiting, []
        for stream in waiting:
            try:
                number = host.open(f"tcp:{stream.port}")
            except ValueError as error:
                self._answer(stream, CableError(errno.EMFILE, str(error)))
                stream.ours.close()
            else:
                self._streams[number] = stream

    def _write_data(self, pipes: Pipes, host: AdbHost, ready: list[tuple[int, int]]) -> None:
        """A message of each stream that has data, and into sockets with what waits for them."""
        for fd, mask in ready:
            transfers = None
            with self._lock:
                if fd == self._wake_fd:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(fd)
                    continue
                number = self._by_fd.get(fd, 0)
                stream = self._streams.get(number)
                if stream is None:
                    continue
                if stream.size and mask & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                    self._flush(stream, number)
                if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    transfers = self._read_stream(stream, number, host)
            if transfers is not None:
                _write(pipes, transfers)
                with self._lock:
                    if self._streams.get(number) is stream:
                        self._follow(stream, number)

    def _read_stream(self, stream: _Stream, number: int, host: AdbHost) -> Transfers | None:
        """The next message of a stream's own data, if there is some; under the lock."""
        room = host.room(number)
        if not room or stream.ended or self._streams.get(number) is not stream:
            return None
        try:
            data = stream.ours.recv(room)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self._hang_up(number)
            return None
        return host.write(number, data)


def _write(pipes: Pipes, transfers: Transfers) -> None:
    """One message, whole."""
    for transfer in transfers:
        pipes.write(transfer, WRITE_SECONDS)


def _spoken(error: OSError) -> CableError:
    """A transfer's error in words for people."""
    if isinstance(error, CableError):
        return error
    if isinstance(error, TimeoutError):
        return CableError(errno.ETIMEDOUT, _SILENT)
    if error.errno == errno.EOVERFLOW:
        text = "the phone sends more than it has announced"
        return CableError(errno.EPROTO, text, "phone_garbled")
    return CableError(error.errno or errno.EIO, _GONE, "phone_absent")
