/** Servers on loopback for tests, closed with everything that still hangs on them. */
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';

export interface TestServer {
  readonly url: string;
  readonly server: Server;
  close(): Promise<void>;
}

export async function startServer(listener: RequestListener): Promise<TestServer> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    server,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Reads a request to its end. */
export async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text;
}

/** Sends and sends until the other side hangs up; counts what was sent. */
export function sendForEver(response: ServerResponse, begin = ''): { bytes: number } {
  const sent = { bytes: 0 };
  const piece = Buffer.alloc(1 << 16, 'x');
  const send = (): void => {
    let room = true;
    while (room && !response.destroyed) {
      sent.bytes += piece.length;
      room = response.write(piece);
    }
  };
  response.write(begin);
  response.on('drain', send).on('error', () => undefined);
  send();
  return sent;
}
