"""Sessions with PostgreSQL by libpq itself: for threads that must be fast and must know how a commit ended.

libpq is what pgrelay is linked with, so it is there. Python's lock is released while libpq waits."""
import ctypes
import select

from harness import SqlError

TUPLES_OK, COMMAND_OK, EMPTY_QUERY = 2, 1, 0
SQLSTATE = ord("C")


class Lost(ConnectionError):
    """The session is gone; whether the last transaction was committed is not known."""


ON_NOTICE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)


@ON_NOTICE
def ignore_notice(arg, text):
    pass


class Notify(ctypes.Structure):
    _fields_ = [("relname", ctypes.c_char_p), ("be_pid", ctypes.c_int), ("extra", ctypes.c_char_p)]


def load():
    library = ctypes.CDLL("libpq.so.5")
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, *arguments in (
        ("PQconnectdb", pointer, text), ("PQstatus", number, pointer), ("PQerrorMessage", text, pointer),
        ("PQfinish", None, pointer), ("PQexec", pointer, pointer, text), ("PQresultStatus", number, pointer),
        ("PQresultErrorField", text, pointer, number), ("PQresultErrorMessage", text, pointer), ("PQclear", None, pointer),
        ("PQntuples", number, pointer), ("PQnfields", number, pointer), ("PQgetvalue", text, pointer, number, number),
        ("PQsocket", number, pointer), ("PQconsumeInput", number, pointer), ("PQnotifies", ctypes.POINTER(Notify), pointer),
        ("PQfreemem", None, ctypes.POINTER(Notify)), ("PQsetNoticeProcessor", pointer, pointer, ON_NOTICE, pointer),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


pq = load()


class Session:
    def __init__(self, conninfo):
        self.link = pq.PQconnectdb(conninfo.encode())
        if pq.PQstatus(self.link) != 0:
            message = pq.PQerrorMessage(self.link).decode(errors="replace").strip()
            self.close()
            raise Lost(message)
        pq.PQsetNoticeProcessor(self.link, ignore_notice, None)

    def __call__(self, text):
        """Runs statements, in one transaction unless they say otherwise; the rows of the last one."""
        result = pq.PQexec(self.link, text.encode())
        try:
            status = pq.PQresultStatus(result)
            if status in (TUPLES_OK, COMMAND_OK, EMPTY_QUERY):
                columns = range(pq.PQnfields(result))
                return [[pq.PQgetvalue(result, row, c).decode() for c in columns] for row in range(pq.PQntuples(result))]
            sqlstate = (pq.PQresultErrorField(result, SQLSTATE) or b"").decode()
            message = (pq.PQresultErrorMessage(result) or b"").decode(errors="replace").strip()
            if pq.PQstatus(self.link) != 0 or not sqlstate or sqlstate.startswith(("57P", "08")):
                raise Lost(message)
            raise SqlError(sqlstate, message)
        finally:
            pq.PQclear(result)

    def notifications(self, timeout):
        """The payloads that have come, of those that come within timeout seconds."""
        if select.select([pq.PQsocket(self.link)], [], [], timeout)[0] and not pq.PQconsumeInput(self.link):
            raise Lost(pq.PQerrorMessage(self.link).decode(errors="replace").strip())
        payloads = []
        while notify := pq.PQnotifies(self.link):
            payloads.append(notify.contents.extra)
            pq.PQfreemem(notify)
        return payloads

    def close(self):
        if self.link is not None:
            pq.PQfinish(self.link)
            self.link = None
