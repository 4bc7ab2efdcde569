// node's ws: joins a group, and tells the extension and the length of what it gets.
const WebSocket = require('ws');
const ws = new WebSocket(process.argv[2]);
ws.on('message', (data) => {
  const message = JSON.parse(data);
  if (message.accept) ws.send(JSON.stringify({groups: {deploy: ['big']}}));
  if (message.groups_joined) console.log('joined');
  if (message.text) console.log(ws.extensions, message.text.length);
});
