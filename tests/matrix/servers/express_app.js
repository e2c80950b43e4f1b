const app = require("express")();
app.get("/", (_, response) => response.type("text").send(`pid=${process.pid}\n`));
app.listen(process.env.PORT, "127.0.0.1");
