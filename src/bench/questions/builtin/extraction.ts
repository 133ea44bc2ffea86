import type { Draft } from './types.js';

/** Extraction: facts out of texts and tables, in a form that was asked for. */
export const extraction: readonly Draft[] = [
  {
    turns: [
      'List the names, roles and cities in this text as a table: "Mira Okafor, who leads the design team in Oslo, met the engineer Paul Lindqvist from Turku. Their manager, Dolores Ibarra, joined by telephone from Seville."',
      'Give the same as JSON, sorted by city.',
    ],
  },
  {
    turns: [
      'Extract all dates from the text and write them as YYYY-MM-DD: "The contract was signed on 3 March 2019, took effect on the first of April of the same year, and ended on New Year\'s Eve 2021."',
      'How many days lie between the first and the second date?',
    ],
  },
  {
    turns: [
      'Rate each review as positive, negative or mixed:\n1. "Arrived late, but works perfectly."\n2. "Broke on the second day. Never again."\n3. "My children love it, and so do I."\n4. "The colour is nice. That is all I can say for it."',
      'For each review quote the words that decided your rating.',
    ],
  },
  {
    turns: [
      'Here are the sales of a shop in CSV:\n\nmonth,apples,pears,plums\nJanuary,120,80,15\nFebruary,95,110,20\nMarch,140,70,65\n\nWhich fruit sold best in each month?',
      'Add a row with the totals and give the whole table as CSV.',
    ],
  },
  {
    turns: [
      'Find all e-mail addresses and telephone numbers in: "Write to info@harbour-cafe.example or call 030 555 0142 (kitchen: 030 555 0143). Reservations only via tables@harbour-cafe.example."',
      'Write them as a contact list in YAML with a label for each.',
    ],
  },
  {
    turns: [
      'Read the recipe and list the ingredients with amounts: "Beat two eggs with 50 grams of sugar, add a quarter litre of milk and 120 grams of flour, a pinch of salt, and fry in a tablespoon of butter."',
      'Scale the list for three times as many people, as a Markdown table.',
    ],
  },
  {
    turns: [
      'Which statements in this paragraph are facts and which are opinions? "The bridge was opened in 1932. It is the most beautiful bridge of the region. About 40,000 cars cross it each day, which is far too many. It was painted green in 1988."',
      'Rewrite the paragraph so that only the facts remain.',
    ],
  },
  {
    turns: [
      'Extract from this log the time and message of each error:\n\n08:01 INFO started\n08:03 ERROR disk almost full\n08:07 WARN slow reply (2.1 s)\n08:09 ERROR connection lost\n08:10 INFO connection restored',
      'How long did the lost connection last, and which line would you look at first? Why?',
    ],
  },
  {
    turns: [
      'Name the person, the place and the main event of this passage in one line each: "When the dam above Kirnau threatened to break in the spring of 1974, the schoolteacher Helene Brandt rang the church bells for an hour and so saved the lower village."',
      'Write three questions whose answers are in the passage, with the answers.',
    ],
  },
  {
    turns: [
      'Sort these words into animals, plants and minerals: oak, quartz, heron, fern, salmon, feldspar, moss, beetle, mica.',
      'Return the groups as JSON with each list in alphabetical order and a count.',
    ],
  },
];
