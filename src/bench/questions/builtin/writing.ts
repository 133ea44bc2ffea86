import type { Draft } from './types.js';

/** Writing: letters, stories, notices and their revision. */
export const writing: readonly Draft[] = [
  {
    turns: [
      'Write a short welcome letter for new tenants of an apartment building. Mention the laundry room, quiet hours, and how to report repairs.',
      'Rewrite the letter as a numbered list of at most six items, keeping every fact.',
    ],
  },
  {
    turns: [
      'Write the opening scene of a mystery that takes place in a lighthouse during a storm. About 200 words.',
      'Tell the same scene again from the point of view of the lighthouse cat.',
    ],
  },
  {
    turns: [
      'Draft an e-mail to a hotel asking for a refund because the heating did not work for two nights. Stay polite but firm.',
      'Now write the reply of the hotel manager, who offers a partial refund and explains what happened.',
    ],
  },
  {
    turns: [
      'Write a product description for a backpack made from recycled sails. Aim it at people who cycle to work.',
      'Shorten it to three sentences and end with a question.',
    ],
  },
  {
    turns: [
      'Write a poem of four stanzas about the first morning of snow in a small town.',
      'Turn the poem into a short weather report that keeps its mood.',
    ],
  },
  {
    turns: [
      'Write a eulogy for a beloved neighbourhood bakery that is closing after sixty years.',
      'Pick the strongest sentence of your text, explain why it works, and then improve the weakest one.',
    ],
  },
  {
    turns: [
      'Explain to the readers of a local newspaper why the town should plant more trees along its main road. Give three arguments.',
      'Answer the most likely objection to your proposal in one paragraph.',
    ],
  },
  {
    turns: [
      'Write a dialogue between two old friends who meet by chance at a train station after ten years.',
      'Summarise the dialogue in two sentences, then list the facts a reader learns about each friend.',
    ],
  },
  {
    turns: [
      "Correct the following paragraph and list what you changed:\n\nMe and my brother was walking to the libary when we seen a dog what had lost it's owner. We brung him with us, and the librarian she call the number on his collar.",
      'Rewrite the corrected paragraph in the present tense and in the third person.',
    ],
  },
  {
    turns: [
      'Write a cover letter for a student who applies for a summer job at a science museum and has no work experience, but runs an astronomy club.',
      'Make it sound less formal and cut it to 120 words.',
    ],
  },
];
