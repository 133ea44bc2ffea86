/**
 * For export/tests: the ids that prepared models get for conversations. On standard input {folders, conversations}, on standard
 * output for each folder a list for each conversation.
 */
import { readManifest } from '../../src/models/manifest.js';
import { loadTokenizer } from '../../src/engine/text/load.js';
import type { ChatMessage } from '../../src/engine/text/chatTemplate.js';

interface Request {
  readonly folders: readonly string[];
  readonly conversations: readonly (readonly ChatMessage[])[];
}

async function main(): Promise<void> {
  let text = '';
  for await (const chunk of process.stdin) text += String(chunk);
  const { folders, conversations } = JSON.parse(text) as Request;
  const found: number[][][] = [];
  for (const folder of folders) {
    const { tokenizer, chatTemplate } = await loadTokenizer(folder, await readManifest(folder));
    const controlTexts = tokenizer.specialTokens.map((token) => token.content);
    found.push(conversations.map((each) => tokenizer.encode(chatTemplate.render(each, controlTexts))));
  }
  process.stdout.write(JSON.stringify(found));
}

await main();
