// The server of `cluster`: knows nothing of workers, nor of who runs it.
require("node:http")
  .createServer((_request, response) => response.end("hello\n"))
  .listen(process.env.PORT, "127.0.0.1");
