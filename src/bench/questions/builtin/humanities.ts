import type { Draft } from './types.js';

/** Humanities: history, law, language, art and society. */
export const humanities: readonly Draft[] = [
  {
    turns: [
      'How did the printing press change life in Europe in its first hundred years? Give three effects.',
      'Compare one of these effects with what the internet did. Where does the comparison fail?',
    ],
  },
  {
    turns: [
      'Explain the idea of the separation of powers and where it came from.',
      'Describe a conflict between two of the powers and how it may be settled.',
    ],
  },
  {
    turns: [
      'What is the difference between a myth, a legend and a fairy tale?',
      'Invent a short legend about why a certain hill has two tops.',
    ],
  },
  {
    turns: [
      'Why do languages borrow words from each other? Give examples from English.',
      'Is a language poorer when it borrows many words? Argue both sides briefly.',
    ],
  },
  {
    turns: [
      'Describe the main ideas of Stoic philosophy to someone who has never heard of it.',
      'Apply them to the case of a person who missed an important train.',
    ],
  },
  {
    turns: [
      'How does inflation affect people with savings, people with debts, and people with fixed wages?',
      'What can a central bank do about it, and what does that cost?',
    ],
  },
  {
    turns: [
      'Plan a one-hour lesson for fourteen-year-olds on daily life in ancient Rome.',
      'Write the five questions of the quiz at the end, with answers.',
    ],
  },
  {
    turns: [
      'What makes a photograph a work of art? Give criteria and an example for each.',
      'How do your criteria apply to pictures made by a computer program?',
    ],
  },
  {
    turns: [
      'Why did many cities begin near rivers? Name the advantages and the dangers.',
      'Choose a real city and explain how its river shaped it.',
    ],
  },
  {
    turns: [
      'What is the sunk cost fallacy? Give one example from private life and one from public projects.',
      'Write a short speech in which a mayor explains why an unfinished project will be stopped.',
    ],
  },
];
