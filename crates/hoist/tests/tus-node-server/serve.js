// @tus/server on a free port of this machine, its files in the directory given. Prints one line with the upload URL.
import { createServer } from 'node:http';
import { FileStore } from '@tus/file-store';
import { Server } from '@tus/server';

const server = new Server({ path: '/files', datastore: new FileStore({ directory: process.argv[2] }) });
const listener = createServer(server.handle.bind(server));
listener.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${listener.address().port}/files`));
