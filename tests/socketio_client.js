// A Socket.IO client that a test drives: commands come as JSON lines on stdin, events go out as JSON lines on stdout.
const { io } = require("socket.io-client");
const [url, transport] = process.argv.slice(2);
const socket = io(url, { transports: [transport], reconnection: false });
const show = (...values) => console.log(JSON.stringify(values.map(value =>
  value instanceof ArrayBuffer || Buffer.isBuffer(value) ? { binary: Buffer.from(value).toString("hex") } : value)));
socket.on("connect", () => show("connect", socket.io.engine.transport.name));
socket.on("connect_error", error => show("connect_error", String(error)));
socket.on("disconnect", reason => { show("disconnect", reason); });
socket.onAny((event, ...values) => show(event, ...values));
require("readline").createInterface({ input: process.stdin }).on("line", line => {
  const [event, ...values] = JSON.parse(line);
  const decoded = values.map(value => value && value.binary ? Buffer.from(value.binary, "hex") : value);
  socket.emit(event, ...decoded, answer => show("answer", answer));
}).on("close", () => process.exit(0));
