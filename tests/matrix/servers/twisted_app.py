# mypy: ignore-errors
import os
import sys

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site


class Answer(Resource):
    isLeaf = True

    def render_GET(self, _):
        return b"pid=%d\n" % os.getpid()


reactor.listenTCP(int(sys.argv[1]), Site(Answer()), interface="127.0.0.1")
reactor.run()
