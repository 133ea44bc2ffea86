import type { Draft } from './types.js';

/** Mathematics: numbers, geometry, chance. */
export const math: readonly Draft[] = [
  {
    turns: [
      'A rectangle is three times as long as it is wide. Its perimeter is 48 cm. What is its area?',
      'By what percentage does the area grow if both sides are made 10% longer?',
    ],
    reference: ['Width 6 cm, length 18 cm, area 108 square centimetres.', 'By 21%.'],
  },
  {
    turns: [
      'Solve the system 2x + y = 11 and x - y = 1.',
      'For which value of k does the system 2x + y = 11 and 4x + ky = 22 have infinitely many solutions?',
    ],
    reference: ['x = 4, y = 3.', 'k = 2.'],
  },
  {
    turns: [
      'A bag holds 4 white and 6 black marbles. Two are drawn without putting the first back. What is the probability that both are white?',
      'What is the probability that they have different colours?',
    ],
    reference: ['(4/10)(3/9) = 2/15.', '2 (4/10)(6/9) = 8/15.'],
  },
  {
    turns: [
      'A savings account pays 5% interest a year. How much are 2000 euros worth after two years?',
      'After how many full years has the amount first doubled?',
    ],
    reference: ['2205 euros.', 'After 15 years (1.05^14 = 1.98, 1.05^15 = 2.08).'],
  },
  {
    turns: [
      'What is the sum of all whole numbers from 1 to 200?',
      'What is the sum of those among them that are divisible by 3?',
    ],
    reference: ['20100.', '3 (1 + ... + 66) = 6633.'],
  },
  {
    turns: [
      'A ladder 13 metres long leans against a wall with its foot 5 metres from the wall. How high does it reach?',
      'The foot slides 2 metres further out. How far down does the top slide? Give two decimals.',
    ],
    reference: ['12 metres.', 'The new height is sqrt(169 - 49) = 10.95 m, so it slides down 1.05 m.'],
  },
  {
    turns: [
      'A train leaves at 9:15 and runs at 80 km/h. A second train leaves from the same station at 10:00 in the same direction at 110 km/h. When does it catch the first?',
      'How far from the station are they then?',
    ],
    reference: ['The lead is 60 km, closed at 30 km/h in two hours: at 12:00.', '220 km.'],
  },
  {
    turns: [
      'Given f(x) = x^2 - 6x + 5, find the zeros and the lowest point.',
      'For which values of c does x^2 - 6x + c = 0 have no real solution?',
    ],
    reference: ['Zeros 1 and 5; lowest point (3, -4).', 'For c > 9.'],
  },
  {
    turns: [
      'In a class of 30, 18 play football, 15 play chess, and 7 play both. How many play neither?',
      'One pupil who plays chess is chosen at random. What is the probability that this pupil plays football too?',
    ],
    reference: ['30 - (18 + 15 - 7) = 4.', '7/15.'],
  },
  {
    turns: [
      'Write 84 and 120 as products of prime numbers and find their greatest common divisor.',
      'What is their least common multiple, and how does it follow from the divisor?',
    ],
    reference: ['84 = 2^2 * 3 * 7, 120 = 2^3 * 3 * 5, gcd 12.', '84 * 120 / 12 = 840.'],
  },
];
