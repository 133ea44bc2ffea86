import type { Draft } from './types.js';

/** Reasoning: small puzzles with one right answer. */
export const reasoning: readonly Draft[] = [
  {
    turns: [
      'Anna is taller than Ben. Carla is shorter than Ben. Dana is taller than Anna. Who is the shortest, and who is the tallest?',
      'Emil is taller than Carla and shorter than Anna. Can you tell whether Emil is taller than Ben? Explain.',
    ],
    reference: [
      'Carla is the shortest and Dana the tallest (Dana > Anna > Ben > Carla).',
      'No. Emil lies between Carla and Anna, and so does Ben; their order is not determined.',
    ],
  },
  {
    turns: [
      'A box holds only red and blue balls. You take out balls without looking. How many must you take to be sure of two balls of the same colour?',
      'How many must you take to be sure of two red balls if the box holds five red and seven blue balls?',
    ],
    reference: ['Three.', 'Nine: the first seven could all be blue.'],
  },
  {
    turns: [
      'Yesterday was two days before Sunday. What day is today?',
      'What day will it be one hundred days from today?',
    ],
    reference: [
      'Saturday (yesterday was Friday).',
      'Monday: 100 = 14 weeks and 2 days, and two days after Saturday is Monday.',
    ],
  },
  {
    turns: [
      'Three switches outside a closed room control three lamps inside, one each. You may flip switches as you like, but enter the room only once. How do you find out which switch belongs to which lamp?',
      'Would your method still work with LED lamps that stay cold? If not, what would you need?',
    ],
    reference: [
      'Turn on the first for some minutes, turn it off, turn on the second, enter: the lit lamp is the second, the warm dark one the first, the cold dark one the third.',
      'No, because it uses heat as a third state; one would need a second visit, a helper, or another lasting trace.',
    ],
  },
  {
    turns: [
      'All gardeners in the village own a dog. Some dog owners in the village are teachers. Does it follow that some gardeners are teachers? Explain.',
      'Which single extra statement would make the conclusion certain?',
    ],
    reference: [
      'No. The teachers who own dogs may be people who do not garden.',
      'For example: "Some gardeners are teachers because every dog owner is a gardener", that is, all dog owners are gardeners (or: at least one teacher is a gardener).',
    ],
  },
  {
    turns: [
      'A farmer must take a fox, a goose and a sack of grain across a river. The boat holds him and one of the three. Fox and goose cannot be left alone, nor goose and grain. How does he do it?',
      'What is the smallest number of crossings, and why can it not be fewer?',
    ],
    reference: [
      'Goose over; back alone; fox over, goose back; grain over; back alone; goose over.',
      'Seven. Each trip moves one item at most, the boat must return in between, and the goose has to be brought back once.',
    ],
  },
  {
    turns: [
      'Which of these does not belong with the others, and why: violin, cello, trumpet, guitar?',
      'Now find a reason why the violin could be the odd one out instead.',
    ],
    reference: [
      'The trumpet: it is a wind instrument, the others have strings.',
      'For example: it is the only one held under the chin.',
    ],
  },
  {
    turns: [
      'Read the notice and answer: "The pool is open every day except Monday. Children under ten may swim only before noon. On holidays the pool opens at eleven." May an eight-year-old swim on a holiday Tuesday at half past ten?',
      'During which time may the child swim on that day?',
    ],
    reference: ['No: on a holiday the pool opens at eleven.', 'From eleven until noon.'],
  },
  {
    turns: [
      'Two doors: one leads out, one to a wall. One guard always lies, one always tells the truth, and you do not know which is which. You may ask one guard one question. What do you ask?',
      'What changes if the guards do not know which door leads out?',
    ],
    reference: [
      'Ask which door the other guard would call the exit, and take the opposite door.',
      'Then their answers carry no information about the door and no question can help.',
    ],
  },
  {
    turns: [
      'A clock needs six seconds to strike four. How many seconds does it need to strike eight?',
      'And how many seconds does it need to strike twelve?',
    ],
    reference: [
      'Fourteen: four strikes have three gaps of two seconds; eight have seven gaps.',
      'Twenty-two: eleven gaps of two seconds.',
    ],
  },
];
