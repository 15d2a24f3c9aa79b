"""A WebDAV server as far as OpenDAL asks one for objects: PUT, GET, DELETE, PROPFIND, MKCOL.

    webdav.py WRITES    prints its port; after WRITES writes it kills itself (0: never)

Content is kept in memory. Only for tests.
"""
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OBJECTS = {}
FOLDERS = {"/"}
LIMIT = int(sys.argv[1])
writes = 0

PROPERTIES = """<?xml version="1.0"?><D:multistatus xmlns:D="DAV:"><D:response><D:href>%s</D:href>
<D:propstat><D:prop><D:getlastmodified>Mon, 01 Jan 2024 00:00:00 GMT</D:getlastmodified>
<D:resourcetype>%s</D:resourcetype><D:getcontentlength>%d</D:getcontentlength></D:prop>
<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Answers go out in one piece: no waiting for acknowledgements.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_PUT(self):
        global writes
        OBJECTS[self.path] = self.body()
        writes += 1
        if writes == LIMIT:
            os.kill(os.getpid(), signal.SIGKILL)
        self.answer(201)

    def do_GET(self):
        content = OBJECTS.get(self.path)
        self.answer(404) if content is None else self.answer(200, content)

    def do_DELETE(self):
        known = OBJECTS.pop(self.path, None) is not None or self.path in FOLDERS
        FOLDERS.discard(self.path)
        self.answer(204 if known else 404)

    def do_MKCOL(self):
        self.body()
        FOLDERS.add(self.path)
        self.answer(201)

    def do_PROPFIND(self):
        self.body()
        if self.path in OBJECTS:
            kind, size = "", len(OBJECTS[self.path])
        elif self.path in FOLDERS or self.path + "/" in FOLDERS:
            kind, size = "<D:collection/>", 0
        else:
            return self.answer(404)
        self.answer(207, (PROPERTIES % (self.path, kind, size)).encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
