import type { Draft } from './types.js';

/** Role-play: voices, professions and things that talk. */
export const roleplay: readonly Draft[] = [
  {
    turns: [
      'You are the captain of a small ferry. A nervous passenger asks whether it is safe to cross in this wind. Answer in character.',
      'The passenger now asks what you were most afraid of in all your years at sea. Tell the story.',
    ],
  },
  {
    turns: [
      'Play a patient piano teacher. Your pupil, aged nine, says that scales are boring and wants to stop practising them.',
      'The pupil asks whether great musicians practise scales too. Answer, and suggest a game.',
    ],
  },
  {
    turns: [
      'You are a museum guide in the year 2300 who shows a group an ordinary smartphone from our time. Give the tour.',
      'A visitor asks why people of that time looked at these devices so often. What do you say?',
    ],
  },
  {
    turns: [
      'Act as a travel agent. I have five days in October, like mountains and good food, and do not want to fly. I live in Munich. What do you suggest?',
      'I forgot to say that my grandmother, who cannot walk far, comes along. Change the plan.',
    ],
  },
  {
    turns: [
      'Speak as an old river that has watched a city grow along its banks for eight hundred years.',
      'The city wants to build a new bridge over you. Tell its council what you think.',
    ],
  },
  {
    turns: [
      'You are a detective who explains everything by what people carry in their pockets. A man comes in with a train ticket, a button, and three dried beans. Begin.',
      'He denies your conclusion. Explain which of your three observations you trust most and why.',
    ],
  },
  {
    turns: [
      'Be a friendly librarian. I liked a novel about a family that runs a vineyard, but I found it too slow. Ask me two questions and recommend three kinds of books.',
      'I prefer short chapters and I like stories about the sea. Which kind fits best, and what should I look for?',
    ],
  },
  {
    turns: [
      'Pretend that you are a chess grandmaster who comments on a game of two beginners for the radio. Describe the first five moves.',
      'Now one of the players loses the queen. Comment on it with kindness and humour.',
    ],
  },
  {
    turns: [
      'You are a fitness coach who works with people over seventy. A new client has a stiff back and is afraid of falling. Write your first conversation.',
      'The client asks for three exercises to do at home with only a chair. Describe them step by step.',
    ],
  },
  {
    turns: [
      'Act as the customer service of a company that sells umbrellas. A customer complains that the umbrella let the rain in at the first storm. Solve the problem.',
      'The customer is still angry and threatens a bad review. Reply once more.',
    ],
  },
];
